"""One sample through a vLLM server: its states, its answer, its traces and p(True), from the cache of one prompt."""

import hashlib
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from relope.errors import UnsupportedError
from relope.extract.data import prompts
from relope.extract.endpoint.messages import data_uri
from relope.extract.model.backbone import Backbone
from relope.extract.model.continuation import truth_ids
from relope.extract.model.extras import Extras
from relope.extract.model.generate import STORED, STYLES
from relope.extract.model.stops import Stops
from relope.extract.model.told import alternatives, entropy_of, final_mean, tells_all
from relope.types import Sample
from relope.vllm.process import is_healthy
from relope.vllm.states import TRIAL_S, take
from relope.vllm.tokens import Choice, RefusedError, Reply, ServerError, Tokens

_GAP = 0.4
"""Nats: at a temperature of 0.01 a token that much less likely is drawn once in e^40 times."""


_HEALTHY_S = 30.0
"""How long a busy server may take to say that it is well."""


@dataclass(frozen=True)
class Prompt:
    """A sample as it is put to the server.

    Attributes:
        sample: as the model shall see it.
        folded: tokens that are sent, one for each image.
        tokens: that the model reads, its images unfolded.
        n_images: that are sent.
    """

    sample: Sample
    folded: list[int]
    tokens: list[int]
    n_images: int


@dataclass(frozen=True)
class Heard:
    """What a server has said of one sample.

    Attributes:
        hidden: layer → ``[T, H]`` of the prompt, in the stored dtype.
        answer: ``[H] float32`` mean of the final-layer states that predict each answer token.
        token_ids: of the answer, the token that ended it included.
        n_kept: of them that belong to the answer.
        logprobs, entropies: of every token, nats.
        rests: of every token, the share of its distribution that no alternative was told of; empty where all were.
        stopped: the answer, where a stop text has ended it.
        traces: style → of each trace its tokens and how many belong to it.
        p_true: None where it was not asked for.
        p_true_tokens: read to ask for it, beside the prompt.
    """

    hidden: Mapping[int, Tensor]
    answer: Tensor
    token_ids: tuple[int, ...] = ()
    n_kept: int = 0
    logprobs: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    rests: tuple[float, ...] = ()
    stopped: str | None = None
    traces: Mapping[str, list[tuple[tuple[int, ...], int]]] = field(default_factory=dict)
    p_true: float | None = None
    p_true_tokens: int = 0


@dataclass(frozen=True)
class Listener:
    """Asks a server of one sample at a time; many threads do so at once.

    Attributes:
        server: that is asked.
        folder: that it leaves states in.
        backbone: without weights, but for the final norm.
        layers: blocks whose output is kept.
        handed: blocks that the server hands over; the last block is among them where there are answers.
        max_new_tokens: longest answer; 0 = states only.
        stored: dtype in which states are kept.
        extras: what is asked besides the greedy answer.
        stops: texts that end an answer.
        over: set where nobody waits for states any more.
    """

    server: Tokens
    folder: Path
    backbone: Backbone
    layers: tuple[int, ...]
    handed: tuple[int, ...]
    max_new_tokens: int
    stored: str
    extras: Extras
    stops: tuple[str, ...]
    over: threading.Event = field(default_factory=threading.Event)

    def hear(self, prompt: Prompt) -> Heard:
        """Return everything that is asked of a sample.

        Raises:
            RefusedError: the server does not take the sample.
            ServerError, StatesError: it is gone, or says something else than was asked.
            UnsupportedError: it reads the prompt as other tokens than the processor here.
        """
        try:
            return self._heard(prompt)
        except RefusedError as error:
            raise RefusedError(
                f"sample {prompt.sample.id!r} is refused: {error}",
                hint="leave it out of the data, or drop --engine vllm",
            ) from error

    def _heard(self, prompt: Prompt) -> Heard:
        images = [data_uri(image) for image in prompt.sample.images[: prompt.n_images]]
        if not self.max_new_tokens:
            return self._silent(prompt, images)
        heard = self._answered(prompt, images)
        p_true, read = self._whether_true(prompt, images, heard) if self.extras.p_true else (None, 0)
        traces = {style: self._traces(prompt, images, style) for style in STYLES} if self.extras.samples else {}
        return Heard(**{**vars(heard), "traces": traces, "p_true": p_true, "p_true_tokens": read})

    def check_states(self) -> None:
        """See that states come from the server to here, before anything is computed.

        Raises:
            ServerError, StatesError: they do not.
        """
        prompt = self.backbone.encode(self.backbone.chat.render([("user", ["?"])]))
        reply = self.server.ask(prompt, (), {"temperature": 0.0, "max_tokens": 1}, "prompt")
        take(self.folder, reply.handed, self.handed, TRIAL_S)

    def check_draws(self) -> None:
        """Refuse a server that draws from something else than its model's distribution.

        Where the temperature is next to zero, every token that is drawn is the likeliest, or as likely. vLLM's kernels
        for a CPU take no notice of it beside the extraction of states (see ``relope/vllm/plugin/relope_cpu.py``).

        Raises:
            UnsupportedError: a token is drawn that never should be.
            ServerError: the server is gone.
        """
        prompt = self.backbone.encode(self.backbone.chat.render([("user", ["?"])]))
        sampling = {"n": 2, "seed": 1, "temperature": 0.01, "max_tokens": 8, "ignore_eos": True, "logprobs": self.top}
        for choice in self.server.ask(prompt, (), sampling).choices:
            for logprob, of in zip(choice.logprobs, choice.alternatives, strict=True):
                if logprob < max(of.values()) - _GAP:
                    below = max(of.values()) - logprob
                    raise UnsupportedError(
                        f"the vLLM server at {self.server.url} draws a token {below:.1f} nats below the likeliest "
                        "where the temperature is 0.01: its traces would not be the model's",
                        hint="drop --samples, or --engine vllm",
                    )

    def _silent(self, prompt: Prompt, images: Sequence[str]) -> Heard:
        reply = self._ask(prompt, images, (), {"temperature": 0.0, "max_tokens": 1}, states="prompt")
        return Heard(self._kept(self._states(reply, prompt), prompt), torch.zeros(self.backbone.hidden_size))

    def _answered(self, prompt: Prompt, images: Sequence[str]) -> Heard:
        sampling = {
            "temperature": 0.0,
            "repetition_penalty": repetition_penalty(self.backbone),
            "logprobs": self.top,
            **self._until(self.max_new_tokens),
        }
        watched = {"stop": list(self.stops)} if self.stops else {}
        reply = self._ask(prompt, images, (), sampling | watched, states="all")
        n_kept, stopped = self._end(reply.choices[0])
        if reply.choices[0].stopped_by and stopped is None:  # it spells tokens otherwise than the tokenizer does
            reply = self._ask(prompt, images, (), sampling, states="all")
            n_kept, stopped = self._end(reply.choices[0])
        choice, handed = reply.choices[0], reply
        if choice.stopped_by and not reply.handed:  # its API looks for stop texts, and aborts what hands states over
            once = {"temperature": 0.0, "max_tokens": 1}
            handed = self._ask(prompt, images, choice.token_ids[: max(n_kept - 1, 0)], once, states="prompt")
        states = self._states(handed, prompt)
        if stopped is None and n_kept == len(choice.token_ids) < self.max_new_tokens:
            raise ServerError(f"{self.server.url} broke off the answer to sample {prompt.sample.id!r}")
        told = [entropy_of(of.values(), whole=self.tells_all) for of in choice.alternatives]
        return Heard(
            hidden=self._kept(states, prompt),
            answer=final_mean(self.backbone, states[self.handed[-1]], len(prompt.tokens), n_kept),
            token_ids=choice.token_ids,
            n_kept=n_kept,
            logprobs=choice.logprobs,
            entropies=tuple(entropy for entropy, _ in told),
            rests=() if self.tells_all else tuple(rest for _, rest in told),
            stopped=stopped,
        )

    def _traces(self, prompt: Prompt, images: Sequence[str], style: str) -> list[tuple[tuple[int, ...], int]]:
        extras = self.extras
        longest = self.max_new_tokens if style == "direct" else max(self.max_new_tokens, extras.trace_tokens)
        key = hashlib.sha256(f"{extras.seed}\n{style}\n{prompt.sample.id}".encode()).digest()
        sampling = {
            "n": extras.samples,
            "temperature": extras.temperature,
            "seed": int.from_bytes(key[:6], "little"),  # the k-th trace is drawn with seed + k
            **self._until(longest),
        }
        reply = self._ask(prompt, images, self.backbone.encode(STYLES[style]), sampling)
        if len(reply.choices) != extras.samples:
            raise ServerError(f"{self.server.url} gave {len(reply.choices)} traces, not {extras.samples}")
        return [(choice.token_ids, _first(choice.token_ids, self.backbone.traits.end_ids)) for choice in reply.choices]

    def _whether_true(self, prompt: Prompt, images: Sequence[str], heard: Heard) -> tuple[float, int]:
        """Return P(True) / (P(True) + P(False)) about the answer, and the tokens read to ask for it."""
        backbone = self.backbone
        asked = [*heard.token_ids[: heard.n_kept], *backbone.encode(backbone.follow_up(prompts.TRUE_OR_FALSE))]
        truths = truth_ids(backbone.tokenizer, backbone.name)
        sampling = {"temperature": 0.0, "max_tokens": 1, "logprobs": self.top}
        told = dict(self._ask(prompt, images, asked, sampling).choices[0].alternatives[0])
        for token in truths:
            if token not in told:  # not among the likeliest: read as the next token of the prompt, it is told of
                alone = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
                told[token] = self._ask(prompt, images, [*asked, token], alone).last[token]
        return 1 / (1 + math.exp(min(700.0, told[truths[1]] - told[truths[0]]))), len(asked)

    def _ask(
        self,
        prompt: Prompt,
        images: Sequence[str],
        further: Sequence[int],
        sampling: Mapping[str, object],
        states: str = "",
    ) -> Reply:
        reply = self.server.ask([*prompt.folded, *further], images, sampling, states)
        if reply.prompt != [*prompt.tokens, *further]:
            raise UnsupportedError(
                f"vLLM reads the prompt of sample {prompt.sample.id!r} as other tokens ({len(reply.prompt)}) than the "
                f"processor of {self.backbone.name} here ({len(prompt.tokens) + len(further)})",
                hint="drop --engine vllm",
            )
        return reply

    def _states(self, reply: Reply, prompt: Prompt) -> Mapping[int, Tensor]:
        handed = take(self.folder, reply.handed, self.handed, self.server.timeout_s, self._lives)
        n = len(prompt.tokens)
        if handed.token_ids[:n].tolist() != prompt.tokens:
            raise ServerError(f"{self.server.url} handed over the states of another prompt")
        return handed.blocks

    def _lives(self) -> bool:
        return not self.over.is_set() and is_healthy(self.server.url, _HEALTHY_S)

    def _kept(self, states: Mapping[int, Tensor], prompt: Prompt) -> Mapping[int, Tensor]:
        dtype, n = STORED[self.stored], len(prompt.tokens)
        return {layer: states[layer][:n].to(dtype) for layer in self.layers}

    def _until(self, longest: int) -> dict[str, object]:
        """Return what ends an answer: the checkpoint's own end tokens and no other, or its length."""
        return {"max_tokens": longest, "stop_token_ids": list(self.backbone.traits.end_ids), "ignore_eos": True}

    def _end(self, choice: Choice) -> tuple[int, str | None]:
        """Return how many tokens belong to an answer, and its text where a stop text has ended it."""
        n = _first(choice.token_ids, self.backbone.traits.end_ids)
        watched = Stops(self.stops, self.backbone.decode)
        for read in range(1, n + 1) if self.stops else ():
            if ending := watched.ended(choice.token_ids[:read]):
                return ending
        return n, None

    @property
    def tells_all(self) -> bool:
        """Whether log-probs of the whole vocabulary are asked for."""
        return tells_all(self.backbone)

    @property
    def top(self) -> int:
        """How many log-probs of a token are asked for."""
        return alternatives(self.backbone)


def _first(token_ids: Sequence[int], ends: Sequence[int]) -> int:
    """Return the number of tokens before the first that ends an answer."""
    return next((index for index, token in enumerate(token_ids) if token in ends), len(token_ids))


def repetition_penalty(backbone: Backbone) -> float:
    """Return the one that the checkpoint's generation settings ask for; 1 = none."""
    asked = getattr(backbone.model.generation_config, "repetition_penalty", None)
    return 1.0 if asked is None else float(asked)
