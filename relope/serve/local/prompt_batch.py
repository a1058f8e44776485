"""One batch between the model and those who wait for it: its inputs, its decisions, and the rows that it leaves."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from relope.extract.model.backbone import Backbone
from relope.serve.engine import Decision, Timing
from relope.serve.local.batches import Request
from relope.serve.local.choosing import Chooser
from relope.serve.local.deciding import Calibrated, decided
from relope.serve.local.prompts import collated
from relope.serve.local.reading import AtBlock, Kept
from relope.serve.local.rows import Noted, Row
from relope.serve.local.scoring import SELF, Scorer, Scores
from relope.serve.local.tickets import ThreadTicket
from relope.serve.local.writing import Decode, Writer


@dataclass(frozen=True)
class ServedModel:
    """What every batch is decided with.

    Attributes:
        backbone: the opened model.
        scorer: the bundle's router, joined to it.
        calibrated: score → P(correct).
        decode: token ids → text, by a tokenizer that no other thread uses.
        images: whether the router was fitted on images; one that learned from captions says nothing of them.
    """

    backbone: Backbone
    scorer: Scorer
    calibrated: Calibrated
    decode: Decode
    images: bool = True


class PromptBatch:
    """One batch that is read."""

    def __init__(
        self, served: ServedModel, batch: Sequence[Request], tell: Callable[[ThreadTicket, Decision], None]
    ) -> None:
        """Begin with a batch.

        Args:
            served: what it is decided with.
            batch: requests that go together.
            tell: takes each decision.
        """
        self.served, self.batch, self.tell, self.began = served, batch, tell, time.perf_counter()
        self.scores: Mapping[str, Scores] = {}
        self.given_up: list[ThreadTicket] = []

    def inputs(self) -> dict[str, Tensor]:
        """Return the batch, on the CPU."""
        pad: int | None = getattr(self.served.backbone.tokenizer, "pad_token_id", None)
        return collated([request.prompt for request in self.batch], pad or 0)

    def decide(self, at: AtBlock) -> list[int]:
        """Tell the decisions that can be made at block l; return the rows that are answered."""
        now = time.perf_counter()
        self.scores = self.served.scorer.at_prompt([request.prompt for request in self.batch], at)
        prompt_s, scoring_s = now - self.began, time.perf_counter() - now
        kept = []
        for number, request in enumerate(self.batch):
            if request.ticket.cancelled:
                self.given_up.append(request.ticket)
                continue
            if self._waits(request):
                kept.append(number)
                continue
            timing = Timing(self.began - request.since, prompt_s, scoring_s)
            score = float(self.scores[SELF][number]) if self.served.scorer.before_answer else None
            n = request.prompt.n_tokens
            self.tell(
                request.ticket, decided(request.query, request.threshold, score, self.served.calibrated, timing, n)
            )
            if request.ticket.is_kept:
                kept.append(number)
        return kept

    def _waits(self, request: Request) -> bool:
        """Return whether a request is decided when its answer is there: the router reads it, and no wish decides."""
        wished = request.query.route is not None and not request.query.score_only
        return not self.served.scorer.before_answer and not wished

    def rows(self, kept: Kept) -> list[Row]:
        """Return the rows that are answered."""
        return [self._row(self.batch[number], number, kept.logits) for number in kept.rows]

    def _row(self, request: Request, number: int, logits: Tensor) -> Row:
        return Row(
            request=request,
            chooser=Chooser(self.served.backbone.model, request.query, request.prompt.ids.to(logits.device)),
            writer=Writer(self.served.decode, request.query.stop),
            began=self.began,
            noted=Noted() if self._waits(request) else None,
            at_prompt={name: float(scores[number]) for name, scores in self.scores.items() if name != SELF},
        )
