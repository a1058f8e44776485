"""What a run may spend at an endpoint: dollars by the tokens that the server counts, or requests."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from relope.errors import OutputError
from relope.types import Sample, Usage

Price = Callable[[Usage], float | None]
"""What an answer costs in dollars; None where its tokens are not told."""

IMAGE_TOKENS = 2000
"""That an image is taken to have before the server has counted. Choice: more than any server takes for one tile row."""

LETTERS_A_TOKEN = 2
"""Of a prompt, taken low, so that what is set aside for a question is rather too much."""


class AllowanceSpentError(OutputError):
    """The next question could cost more than is allowed."""


@dataclass
class Allowance:
    """What may still be spent; several threads ask it at once.

    A question is asked only while what was spent, and the most that those in flight may cost, stays below the cap.

    Attributes:
        price: of an answer; None where nobody has named one.
        max_usd: of all answers of the store together; None = no cap.
        max_requests: that are sent, those to a busy server again included; None = no cap.
        spent: dollars, of all answers of the store.
        requests: that this run has sent.
        reserved: dollars that the questions in flight may cost.
    """

    price: Price | None = None
    max_usd: float | None = None
    max_requests: int | None = None
    spent: float = 0.0
    requests: int = 0
    reserved: float = 0.0
    stopped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def request(self) -> None:
        """Count a request that is about to be sent.

        Raises:
            AllowanceSpentError: it would be one too many, or the run has ended.
        """
        with self.changed:
            if self.stopped:
                raise AllowanceSpentError("the run has ended")
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise AllowanceSpentError(
                    f"{self.requests:,} requests were sent, as many as are allowed",
                    hint="raise --max-requests; the same command goes on from there",
                )
            self.requests += 1

    def reserve(self, dollars: float) -> None:
        """Set aside what a question may cost; wait for those in flight where that could be too much.

        Raises:
            AllowanceSpentError: it is too much, whatever they cost.
        """
        with self.changed:
            while self.max_usd is not None and self.spent + self.reserved + dollars > self.max_usd:
                if self.stopped or not self.reserved:
                    raise AllowanceSpentError(
                        f"answers have cost ${self.spent:.4f}; the next may cost ${dollars:.4f}, and ${self.max_usd:g} "
                        "are allowed",
                        hint="raise --max-usd; the same command goes on from there",
                    )
                self.changed.wait()
            self.reserved += dollars

    def set_aside(self, dollars: float) -> None:
        """Set aside what a question of a batch may cost, until its answer has come or the run ends.

        Raises:
            AllowanceSpentError: it is too much.
        """
        with self.changed:
            if self.max_usd is not None and self.spent + self.reserved + dollars > self.max_usd:
                raise AllowanceSpentError(
                    f"answers have cost ${self.spent:.4f} and those that are asked may cost ${self.reserved:.4f}; the "
                    f"next may cost ${dollars:.4f}, and ${self.max_usd:g} are allowed",
                    hint="raise --max-usd; the same command goes on from there",
                )
            self.reserved += dollars

    def settle(self, dollars: float, usage: Usage | None) -> None:
        """Count what a question has cost in the place of what was set aside for it.

        Args:
            dollars: that were set aside.
            usage: what its answer took; None where there is none.

        Raises:
            OutputError: the server does not tell, and there is a cap in dollars.
        """
        cost = self.price(usage) if usage is not None and self.price is not None else 0.0
        with self.changed:
            self.reserved = max(0.0, self.reserved - dollars)
            self.spent += dollars if cost is None else cost
            self.changed.notify_all()
        if cost is None and self.max_usd is not None:
            raise OutputError(
                "the server does not tell how many tokens an answer takes, so that its dollars cannot be capped",
                hint="give --max-requests in the place of --max-usd",
            )

    def stop(self) -> None:
        """Let no further request be sent."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def most_of(self, sample: Sample, text: str, max_tokens: int) -> float:
        """Return the dollars that a question may cost, taken rather too high."""
        return self.most(text, max_tokens, len(sample.images))

    def most(self, text: str, max_tokens: int, n_images: int = 0) -> float:
        """Return the dollars that a prompt and its answer may cost, taken rather too high."""
        if self.price is None or self.max_usd is None:
            return 0.0
        prompt = len(text) // LETTERS_A_TOKEN + IMAGE_TOKENS * n_images
        return self.price(Usage(prompt, max_tokens)) or 0.0
