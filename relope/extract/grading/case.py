"""What a grader that asks a model is shown of an answer, and what the model makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Case:
    """One answer that is to be judged.

    Attributes:
        question: as it was asked; "" where nobody knows it.
        response: what the model wrote.
        answers: every gold answer; letters where there are choices; none where nobody knows it.
        choices: the options, in their order.
        finish_reason: why the model stopped, as `relope.types.Answer`.
        id: of the sample, for people.
    """

    question: str
    response: str
    answers: Sequence[str]
    choices: Sequence[str] = ()
    finish_reason: str = ""
    id: str = ""


class Asking(Protocol):
    """What the file of a grader exports beside ``VERSION`` and ``grade``, when it asks a model.

    Its ``grade`` then says what stands while no model has judged: an answer is unparsed, and never correct.
    """

    MAX_TOKENS: int
    """Longest reply that is read."""

    def shown(self, case: Case) -> dict[str, Any]:
        """Return what the model is shown of a case, as JSON values; empty where there is nothing to ask."""
        ...

    def messages(self, shown: dict[str, Any], nonce: str) -> list[dict[str, str]]:
        """Return the request; the nonce is new in each, so that no answer can know it."""
        ...

    def verdict(self, reply: str, nonce: str) -> bool | None:
        """Return whether the reply says that the answer is right; None where it is no verdict."""
        ...


ASKING = ("MAX_TOKENS", "shown", "messages", "verdict")
"""The names by which such a file is known."""
