"""A bundle's router on prompts that the small model is reading: the scores that `relope predict` would give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor, nn

from relope.errors import UnsupportedError
from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import STORED, token_columns, token_table
from relope.extract.model.interfaces import Model
from relope.probes.examples import Examples
from relope.probes.protocol import Probe, RunsBlock, Stacks, block_use, make, reads_of_answer
from relope.probes.replay import last_of, last_token_only
from relope.probes.router import Router
from relope.serve.local.prompts import Prompt
from relope.serve.local.reading import AtBlock, rows_of
from relope.store import StoreManifest
from relope.store.live import LiveStates

Scores = npt.NDArray[np.float32]

SELF = ""
"""Under which `Scorer.at_prompt` gives the score of the router itself."""


@dataclass(frozen=True)
class Said:
    """An answer, as routers that decide after it read it.

    Attributes:
        text: without the white space around it.
        logprobs: ``[A]`` nats, of the raw distribution.
        entropies: ``[A]`` nats.
        final: ``[H] float32`` mean of the final-layer states that predict its tokens; zeros without any.
    """

    text: str
    logprobs: Sequence[float]
    entropies: Sequence[float]
    final: Tensor


class RunningBlock:
    """Block l of the running model, for routers that run it with adapters of their own in it."""

    def __init__(self, backbone: Backbone) -> None:
        """Stand for a backbone; `at` says which batch it is reading."""
        self.backbone, self.at = backbone, AtBlock({})
        self.stored = backbone.dtype

    @property
    def model(self) -> Model:
        """The transformers model."""
        return self.backbone.model

    def last_states(self, ids: Sequence[str], block: nn.Module, layer: int, *, stop: bool) -> Tensor:
        """Return ``[B, H]``: what ``block`` gives at the last token of the rows of the batch that are named."""
        hidden, arguments = self.at.earlier[layer - 1].to(self.stored).to(self.backbone.dtype), self.at.arguments
        if len(ids) < len(hidden):
            of, chosen = len(hidden), torch.tensor([int(name) for name in ids], device=hidden.device)
            hidden = hidden[chosen]
            arguments = {name: rows_of(value, of, chosen) for name, value in arguments.items()}
        mask = arguments.get("attention_mask")
        if mask is not None and mask.ndim != 4:  # a flash kernel's: there the whole block runs
            return last_of(block(hidden, **arguments))
        with last_token_only(block):
            return last_of(block(hidden, **arguments))


class Scorer:
    """A router, ready to score what a model reads.

    Attributes:
        before_answer: whether it scores before there is an answer.
        earlier: layers below l-1 that it reads.
    """

    def __init__(self, router: Router, layer: int, backbone: Backbone) -> None:
        """Join a router and the model that it reads.

        Args:
            router: of the bundle.
            layer: the block l that it reads.
            backbone: the running model.

        Raises:
            UnsupportedError: the router reads what a served query does not have.
        """
        traits = router.probe.traits
        if traits.needs or traits.reads_grades:
            raise UnsupportedError(
                f"{router.record.method} cannot be served: it needs {traits.flags or 'graded answers'} of every query"
            )
        check_entropies(router, "whole", "the engine transformers")
        self.router, self.layer, self.backbone = router, layer, backbone
        self.before_answer = not traits.reads_answer
        self.earlier = tuple(n for n in router.probe.layers(layer) if n < layer - 1)
        self.running = RunningBlock(backbone)
        stored = str(router.record.identity.get("stored_dtype") or backbone.compute_dtype)
        self.running.stored = STORED[stored]
        self._dtype = stored
        _run_in_place(router.probe)
        probe = router.probe
        members = dict(probe.members_) if isinstance(probe, Stacks) else {}
        self.stacked = {name: member for name, member in members.items() if not member.traits.reads_answer}
        self._open()

    def _open(self) -> None:
        """Put adapters beside block l now, while no hook is on it that they would copy."""
        nothing = self._states([], np.zeros(0, np.int64), {})
        for probe in _parts(self.router.probe):
            if not isinstance(probe, Stacks) and block_use(probe) != "none":
                probe.predict_proba(self._examples(nothing))

    @cached_property
    def _manifest(self) -> StoreManifest:
        layers = tuple(sorted({*self.router.probe.layers(self.layer), self.layer}))
        return StoreManifest(
            identity=self.router.record.identity,  # type: ignore[arg-type]
            layers=layers,
            hidden_size=self.backbone.hidden_size,
            dtype=self._dtype,
            token_columns=token_columns(self.backbone),
        )

    def at_prompt(self, prompts: Sequence[Prompt], at: AtBlock) -> Mapping[str, Scores]:
        """Return ``[B] float32`` of the prompts of a batch that has run through block l, by what gives it.

        That is the router where it scores before the answer; of one that stacks others and scores after it, each of
        those that reads no answer; of any other nobody.
        """
        asked = {SELF: self.router.probe} if self.before_answer else self.stacked
        if not asked:
            return {}
        self.running.at = at
        try:
            rows = [sample_columns(number, prompt) for number, prompt in enumerate(prompts)]
            examples = self._read(rows, self._arrays(at), at.mask)
            with torch.inference_mode():
                return {name: probe.predict_proba(examples) for name, probe in asked.items()}
        finally:
            self.running.at = AtBlock({})

    def after(self, prompt: Prompt, at_prompt: Mapping[str, float], said: Said) -> float:
        """Return P(correct) of an answer.

        Args:
            prompt: what was asked.
            at_prompt: what `at_prompt` returned for it.
            said: the answer.
        """
        probe, arrays = self.router.probe, {"answer": lambda: self._host(said.final[None])}
        examples = self._read([sample_columns(0, prompt) | answer_columns(said)], arrays, torch.ones(1, 1))
        with torch.inference_mode():
            if not isinstance(probe, Stacks):
                return float(probe.predict_proba(examples)[0])
            known = {name: np.full(1, score, np.float32) for name, score in at_prompt.items()}
            return float(probe.predict_knowing(known, examples)[0])

    def _read(self, rows: list[dict[str, Any]], arrays: dict[str, Any], mask: Tensor) -> Examples:
        lengths = mask.sum(1).cpu().numpy().astype(np.int64)
        return self._examples(self._states(rows, lengths, arrays))

    def _examples(self, states: LiveStates) -> Examples:
        device = str(self.backbone.device)
        return Examples(states, np.arange(len(states)), None, self.layer, self.running, device)

    def _states(self, rows: list[dict[str, Any]], lengths: npt.NDArray[np.int64], arrays: dict[str, Any]) -> LiveStates:
        frame = pl.DataFrame(rows, schema_overrides=COLUMN_TYPES) if rows else pl.DataFrame(schema=COLUMN_TYPES)
        return LiveStates(self._manifest, frame, lengths, arrays)

    def _arrays(self, at: AtBlock) -> dict[str, Any]:
        """Return how each array of a batch is fetched: only what the router reads leaves the device."""
        is_token = at.mask.bool()
        states = {**at.earlier, self.layer: at.output}
        return {
            **{f"last/{n}": partial(self._host_of, of, (slice(None), -1)) for n, of in states.items()},
            **{f"hidden/{n}": partial(self._host_of, of, is_token) for n, of in states.items()},
            "tokens": lambda: token_table(self.backbone, at.inputs, self._positions(at), is_token).cpu().numpy(),
        }

    def _positions(self, at: AtBlock) -> Tensor | None:
        """Return ``[R, B, T]`` as a store has them: a plain forward of Qwen leaves out the text's own, the first."""
        if at.positions is None or len(at.positions) == self.backbone.traits.position_rows:
            return at.positions
        text = (at.mask.cumsum(-1) - 1).clamp(min=0)
        return torch.cat([text[None], at.positions.expand(-1, len(text), -1)])

    def _host_of(self, states: Tensor, some: Any) -> npt.NDArray[Any]:
        return self._host(states[some])

    def _host(self, states: Tensor) -> npt.NDArray[Any]:
        return on_host(states, self._dtype)


def on_host(states: Tensor, dtype: str) -> npt.NDArray[Any]:
    """Return states in a stored number type, on the host; bfloat16 as its bits."""
    stored = states.to(STORED[dtype])
    values = stored.view(torch.uint16) if stored.dtype == torch.bfloat16 else stored
    array: npt.NDArray[Any] = values.contiguous().cpu().numpy()
    return array


def check_entropies(router: Router, told: str, engine: str) -> None:
    """Refuse a router that reads the entropies of an answer, where it has learned from others than it would get.

    Args:
        router: of a bundle.
        told: what the engine's entropies are of, as the identity of a store says it.
        engine: what messages call it.

    Raises:
        UnsupportedError: as said.
    """
    learned = (router.record.identity.get("engine") or {}).get("entropies", "whole")
    if "entropies" in reads_of_answer(router.probe) and learned != told:
        of = {"whole": "the whole distribution"}
        raise UnsupportedError(
            f"{router.record.method} has learned from entropies of {of.get(learned, learned)}; {engine} tells those of "
            f"{of.get(told, told)}",
            hint="serve it by the engine that its store was made with; extract has --engine vllm, too",
        )


COLUMN_TYPES: dict[str, Any] = {
    "row": pl.Int64,
    "id": pl.String,
    "group": pl.String,
    "question": pl.String,
    "choices": pl.List(pl.String),
    "response": pl.String,
    "logprobs": pl.List(pl.Float64),
    "entropies": pl.List(pl.Float64),
}


def sample_columns(number: int, prompt: Prompt) -> dict[str, Any]:
    """Return what is known of a query before its answer, as a row of samples."""
    return {
        "row": number,
        "id": str(number),
        "group": str(number),
        "question": prompt.question,
        "choices": list(prompt.choices),
    }


def answer_columns(said: Said) -> dict[str, Any]:
    """Return what is known of its answer."""
    return {"response": said.text, "logprobs": list(said.logprobs), "entropies": list(said.entropies)}


def _parts(probe: Probe) -> list[Probe]:
    """Return a method and, where it stacks others, those too."""
    return [probe, *probe.members_.values()] if isinstance(probe, Stacks) else [probe]


def _run_in_place(probe: Probe) -> None:
    """Let a method that runs block l take the running model's, whatever it was fitted from."""
    for part in _parts(probe):
        if isinstance(part, RunsBlock) and "mode" in type(part).Params.model_fields and block_use(part) == "replayed":
            part.params = make(part.name, {**part.params.model_dump(), "mode": "truncated"}).params
