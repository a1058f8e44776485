"""A vLLM server joined to a bundle's router: what the one tells of prompts and answers is what the other reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from relope.extract.model.backbone import Backbone
from relope.extract.model.told import alternatives, entropy_of, final_mean, tells_all
from relope.serve.apart.client import Client, Step, check_read, turns_of
from relope.serve.apart.scoring import HandedScorer
from relope.serve.engine import EngineError, Query
from relope.serve.local.deciding import Calibrated
from relope.serve.local.prompts import Prompt
from relope.serve.local.scoring import Said
from relope.serve.local.writing import Decode
from relope.vllm.process import is_healthy
from relope.vllm.states import Handed, take


@dataclass(frozen=True)
class Asked:
    """A query as it is put to the server.

    Attributes:
        query: what is asked.
        prompt: as the model reads it.
        folded: its tokens, one for each image; none where nobody asks for states of an answer.
    """

    query: Query
    prompt: Prompt
    folded: Sequence[int] = ()


@dataclass
class Told:
    """An answer's tokens, and what the server tells of them, one entry a token.

    Attributes:
        token_ids: without the end token.
        logprobs: nats.
        alternatives: log-probs of the likeliest tokens in the place of each, where they were asked for.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[Sequence[float]] = field(default_factory=list)

    def add(self, step: Step, n: int) -> None:
        """Add the first ``n`` tokens of a step."""
        self.token_ids += step.token_ids[:n]
        self.logprobs += step.logprobs[:n]
        self.alternatives += step.alternatives[:n]

    def first(self, n: int) -> "Told":
        """Return the first ``n`` tokens alone."""
        return Told(self.token_ids[:n], self.logprobs[:n], self.alternatives[:n])


@dataclass(frozen=True)
class Apart:
    """What every query is served with.

    Attributes:
        backbone: the model without its weights: it makes prompts.
        client: of the server that runs it.
        folder: that states are handed over in.
        scorer: the bundle's router.
        calibrated: score → P(correct).
        decode: token ids → text; any thread may call it.
        wait_s: how long states are waited for.
    """

    backbone: Backbone
    client: Client
    folder: Path
    scorer: HandedScorer
    calibrated: Calibrated
    decode: Decode
    wait_s: float = 120.0

    def read(self, query: Query, prompt: Prompt) -> Handed:
        """Let the server read a prompt, and return its states.

        Raises:
            EngineError: the server does not read it, or reads other tokens than ours.
            StatesError: it hands no states over.
        """
        return self._taken(self.client.states(turns_of(query, self.backbone.chat.style)), prompt.ids[0].tolist())

    def answered(self, query: Query, prompt: Prompt, limit: int, heeded: bool) -> Iterator[Step]:
        """Yield an answer as it comes; who stops listening ends it.

        Args:
            query: what is asked.
            prompt: as the model reads it.
            limit: most tokens.
            heeded: whether what the router reads of the answer is told, too.

        Raises:
            EngineError: the server does not answer, or reads other tokens than ours.
        """
        turns = turns_of(query, self.backbone.chat.style)
        return self.client.answer(turns, query, limit, prompt.ids[0].tolist(), self._top if heeded else None)

    def score(self, asked: Asked, told: Told, text: str) -> float:
        """Return P(correct) of an answer; the server reads it once more where its states are asked for.

        Args:
            asked: what was asked.
            told: its tokens, and what was told of them.
            text: of the answer.

        Raises:
            EngineError, StatesError: as `read`.
        """
        handed, final = None, torch.zeros(self.backbone.hidden_size)
        ids, prompt, scorer = told.token_ids, asked.prompt, self.scorer
        if scorer.states_after:
            images = [part for turn in asked.query.messages for part in turn.parts if not isinstance(part, str)]
            said = self.client.states_of([*asked.folded, *ids[:-1]], images)  # nothing follows from the last
            handed = self._taken(said, [*prompt.ids[0].tolist(), *ids[:-1]])
            if "states" in scorer.of_answer:
                final = final_mean(self.backbone, handed.blocks[scorer.layers[-1]], prompt.n_tokens, len(ids))
        if len(told.logprobs) != len(ids) or any(len(of) < self._top for of in told.alternatives):
            raise EngineError("the vLLM server tells fewer log-probs than it was asked for")
        whole = tells_all(self.backbone)
        entropies = [entropy_of(of, whole=whole)[0] for of in told.alternatives] if self._top else []
        return scorer.after(prompt, Said(text.strip(), told.logprobs, entropies, final), handed)

    @property
    def _top(self) -> int:
        """How many log-probs of the likeliest tokens are asked for in the place of each token of an answer."""
        return alternatives(self.backbone) if "entropies" in self.scorer.of_answer else 0

    def _lives(self) -> bool:
        return not self.client.over and is_healthy(self.client.url)

    def _taken(self, told: Any, ours: Sequence[int]) -> Handed:
        handed = take(self.folder, told, self.scorer.layers, self.wait_s, self._lives)
        check_read(handed.token_ids.tolist(), ours)
        return handed
