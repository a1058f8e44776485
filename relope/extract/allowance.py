"""What a run may spend at an endpoint: dollars by the tokens that the server counts, or requests."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from relope.errors import OutputError
from relope.types import Usage

Price = Callable[[Usage], float | None]
"""What an answer costs in dollars; None where its tokens are not told."""

IMAGE_TOKENS = 2000
"""That an image is taken to have before the server has counted. Choice: what it counts for one corrects this upward."""

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
        spent: dollars, of all answers of the store whose tokens are told.
        untold: answers whose tokens are not told.
        requests: that this run has sent.
        reserved: dollars that the questions in flight may cost.
        in_flight: questions that dollars are set aside for.
        in_doubt: dollars that requests without an answer may have cost.
        unanswered: how many of them there are.
        scale: the most tokens that the server has counted in a prompt, over our estimate of them; 1 at least.
    """

    price: Price | None = None
    max_usd: float | None = None
    max_requests: int | None = None
    spent: float = 0.0
    untold: int = 0
    requests: int = 0
    reserved: float = 0.0
    in_flight: int = 0
    in_doubt: float = 0.0
    unanswered: int = 0
    scale: float = 1.0
    stopped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def dollars(self) -> float | None:
        """What all answers of the store have cost; None without prices, or where the tokens of one are not told."""
        return None if self.price is None or self.untold else self.spent

    @property
    def doubtful_dollars(self) -> float | None:
        """What requests without an answer may have cost; None without prices."""
        return None if self.price is None else self.in_doubt

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

    def reserve(self, dollars: float, *, wait: bool = True) -> None:
        """Set aside what a question may cost, until it is settled or the run ends.

        Args:
            dollars: that it may cost.
            wait: for the questions in flight where it could be too much beside them; those of a batch are not waited
                for.

        Raises:
            AllowanceSpentError: it is too much.
        """
        with self.changed:
            while self.max_usd is not None and self.spent + self.in_doubt + self.reserved + dollars > self.max_usd:
                if self.stopped or not (wait and self.in_flight):
                    asked = f", requests without an answer perhaps ${self.in_doubt:.4f}" if self.unanswered else ""
                    asked += f" and those that are asked may cost ${self.reserved:.4f}" if self.in_flight else ""
                    estimate = "" if wait else "; of a batch that is an estimate"
                    raise AllowanceSpentError(
                        f"answers have cost ${self.spent:.4f}{asked}; the next may cost ${dollars:.4f}, and "
                        f"${self.max_usd:g} are allowed{estimate}",
                        hint="raise --max-usd; the same command goes on from there",
                    )
                self.changed.wait()
            self.reserved += dollars
            self.in_flight += 1

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
            self._give_back(dollars)
            self.spent += dollars if cost is None else cost
            self.untold += cost is None
            self.changed.notify_all()
        if cost is None and self.max_usd is not None:
            raise OutputError(
                "the server does not tell how many tokens an answer takes, so that its dollars cannot be capped",
                hint="give --max-requests in the place of --max-usd",
            )

    def doubt(self, dollars: float) -> None:
        """Keep what was set aside for a request that got no answer: the server may have charged it."""
        with self.changed:
            self._give_back(dollars)
            self.in_doubt += dollars
            self.unanswered += 1
            self.changed.notify_all()

    def _give_back(self, dollars: float) -> None:
        self.in_flight -= 1
        # Sums of floats leave a rest, for which whoever waits would wait for ever.
        self.reserved = self.reserved - dollars if self.in_flight else 0.0

    def stop(self) -> None:
        """Let no further request be sent."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def learn(self, estimate: Usage, usage: Usage) -> None:
        """Raise the estimates of prompts where the server counts more than `estimate` has taken."""
        if estimate.prompt_tokens and usage.prompt_tokens is not None:
            with self.changed:
                self.scale = max(self.scale, usage.prompt_tokens / estimate.prompt_tokens)

    def at_most(self, estimate: Usage) -> Usage:
        """Return an estimate as what servers have counted so far corrects it."""
        return replace(estimate, prompt_tokens=math.ceil((estimate.prompt_tokens or 0) * self.scale))

    def dollars_of(self, usage: Usage) -> float:
        """Return what tokens cost; 0 without prices."""
        return 0.0 if self.price is None else self.price(usage) or 0.0


def estimate(text: str, max_tokens: int, n_images: int = 0) -> Usage:
    """Return the tokens that a prompt and its answer may have, before a server has counted any."""
    return Usage(len(text) // LETTERS_A_TOKEN + IMAGE_TOKENS * n_images, max_tokens)


@dataclass(frozen=True)
class Bill:
    """Tokens that are paid for, or may be, without an answer that is kept.

    Attributes:
        usage: the tokens.
        certain: the server has told them; otherwise they are the most that a request may have taken.
    """

    usage: Usage
    certain: bool


def allowance_after(
    answered: Iterable[Usage],
    price: Price | None,
    max_usd: float | None,
    max_requests: int | None,
    requests: int = 0,
    bills: Sequence[Bill] = (),
) -> Allowance:
    """Return what may still be spent beside answers that are there; without prices requests alone are capped.

    Args:
        answered: what each of them took.
        price: of an answer.
        max_usd: cap in dollars.
        max_requests: cap in requests.
        requests: that this run has sent already.
        bills: of requests that left no answer.
    """
    if price is None:
        return Allowance(max_requests=max_requests, requests=requests)
    costs = [price(usage) for usage in (*answered, *(bill.usage for bill in bills if bill.certain))]
    known = [cost for cost in costs if cost is not None]
    allowance = Allowance(price, max_usd, max_requests, sum(known), len(costs) - len(known), requests)
    doubtful = [allowance.dollars_of(bill.usage) for bill in bills if not bill.certain]
    allowance.in_doubt, allowance.unanswered = sum(doubtful), len(doubtful)
    return allowance
