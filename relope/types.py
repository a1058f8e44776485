"""The records that walk through the pipeline: sample → generation → grade, and what a step did.

Arrays are numpy; letters: N samples, B batch, T tokens, A answer tokens, H hidden size.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

OWN = "own file"
"""What the identity of a data set says of its source where it is a user's own file or folder."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What the options of a multiple-choice question are called, in their order."""


@dataclass(frozen=True)
class LazyImage:
    """An image that is opened only when needed.

    Attributes:
        digest: sha256 (hex) of the clean image; samples that share it are never split apart.
        open: returns the decoded RGB image.
    """

    digest: str
    open: "Callable[[], Image]" = field(compare=False, repr=False)


@dataclass(frozen=True)
class Sample:
    """One question of a data set.

    Attributes:
        id: unique within its data set.
        dataset: CLI name of the data set.
        split: ``train``, ``validation`` or ``test``.
        question: the question's own text, without choices.
        answers: every gold answer that counts as right.
        choices: the options of a multiple-choice question; the gold is then a letter.
        images: in the order in which the prompt shows them.
        hint: text put before the question.
        instruction: how to answer, put behind the question.
        caption: what stands in for the images with ``--text-only``.
        system: what the system's turn says, before all others.
        earlier: role (``user`` or ``assistant``) and text of each turn before the one that asks.
        prompt: the text of the user's turn, where a prompt template has written it; else it is made of the above.
        group: samples of one group share an image and are never split or resampled apart.
        meta: further columns (question kind, subject, …): JSON values only.
    """

    id: str
    dataset: str
    split: str
    question: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    images: tuple[LazyImage, ...] = ()
    hint: str = ""
    instruction: str = ""
    caption: str = ""
    system: str = ""
    earlier: tuple[tuple[str, str], ...] = ()
    prompt: str = ""
    group: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def said_before(self) -> list[list[str]]:
        """Role and text of each turn before the one that asks, the system's included; empty as a rule."""
        system = [["system", self.system]] if self.system else []
        return [*system, *map(list, self.earlier)]


@dataclass(frozen=True)
class Generation:
    """What the model answered.

    Attributes:
        text: decoded answer without special tokens.
        token_ids: ``[A]`` without the end token.
        logprobs: ``[A]`` nats, of the raw (unprocessed) distribution, end token excluded.
        entropies: ``[A]`` nats, likewise.
        finish_reason: ``stop`` (end token) or ``length``.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    finish_reason: str


@dataclass(frozen=True)
class Usage:
    """What an answer took, as far as anybody has said; None is unknown, never nothing.

    Attributes:
        prompt_tokens: that were read, cached ones included.
        completion_tokens: that were written, those of the model's reasoning included.
        cached_tokens: of the prompt, those that the server had read before.
        latency_s: seconds from the request to the end of the answer.
        cost_usd: dollars that were paid for it.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    latency_s: float | None = None
    cost_usd: float | None = None

    @classmethod
    def told(cls, usage: Any, latency_s: float | None = None) -> "Usage":
        """Return what the ``usage`` of a chat completion tells, whatever a server has put there."""
        counts = usage if isinstance(usage, dict) else {}
        details = counts.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        told = (counts.get("prompt_tokens"), counts.get("completion_tokens"), cached)
        prompt, completion, cached = (count if type(count) is int and 0 <= count < 1 << 63 else None for count in told)
        return cls(prompt, completion, cached, latency_s)


@dataclass(frozen=True)
class Answer:
    """What a model that runs elsewhere has said.

    Attributes:
        text: the answer.
        logprobs: nats of each of its tokens; None where nobody has told them.
        entropies: nats of the distribution at each of its tokens, likewise.
        finish_reason: ``stop``, ``length`` or ``""`` where it is not known.
        usage: what it took.
        answered_by: what the server calls the model that has answered: the version behind an alias.
    """

    text: str
    logprobs: tuple[float, ...] | None = None
    entropies: tuple[float, ...] | None = None
    finish_reason: str = ""
    usage: Usage = field(default_factory=Usage)
    answered_by: str = ""


@dataclass(frozen=True)
class Grade:
    """A verdict on one answer; an answer that cannot be parsed is wrong, never guessed."""

    correct: bool | None
    """None where there is nothing to judge by: no gold answer."""
    parsed: str
    parse_status: str
    """``parsed`` or ``unparsed``."""


@dataclass(frozen=True)
class Capture:
    """What one sample leaves behind besides its answer.

    Attributes:
        hidden: layer → ``[T, H]`` hidden states of every prompt token, in the stored dtype
            (bfloat16 travels as uint16).
        answer: ``[H]`` mean of the final-layer states that predict each answer token, end token
            excluded; zeros when nothing was generated.
        tokens: ``[T, C] int32``, one column per name in the store's ``token_columns``.
    """

    hidden: "Mapping[int, npt.NDArray[Any]]"
    answer: "npt.NDArray[Any]"
    tokens: "npt.NDArray[np.int32]"


class Progress(Protocol):
    """How library code reports progress without knowing about terminals."""

    def __call__(self, done: int, total: int) -> None:
        """Say that ``done`` of ``total`` units are finished."""


def no_progress(done: int, total: int) -> None:
    """Ignore progress."""


Watch = Callable[[str], AbstractContextManager[Progress]]
"""Label → a context that gives a progress callback; the command line passes its bars."""


def silent(label: str) -> AbstractContextManager[Progress]:
    """Watch nothing."""
    return nullcontext(no_progress)


Severity = Literal["wrong", "unsure", "note"]
"""Worst first: numbers that do not mean what they seem to, numbers with too little behind them, good to know."""


@dataclass(frozen=True)
class ResultWarning:
    """What must be said of numbers before they are read.

    Attributes:
        severity: how bad it is.
        text: one sentence of facts: what, of which method, split or grader, and the numbers behind it.
    """

    severity: Severity
    text: str


def worst_first(warnings: Iterable[ResultWarning]) -> tuple[ResultWarning, ...]:
    """Return every warning once, worst first, those of one severity in the order given."""
    order = get_args(Severity)
    return tuple(sorted(dict.fromkeys(warnings), key=lambda warning: order.index(warning.severity)))


@dataclass(frozen=True)
class TextTable:
    """A table for a terminal: what it shows, its headings, and one text a cell."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Outcome:
    """What a step did; those of some steps also open what they wrote.

    Attributes:
        path: what it wrote, or found up to date.
        reused: True when nothing had to be done.
        text: the result in a line or two for a person, ``""`` when the tables say all.
        note: what a person may do next or should know beside the result.
        facts: the same and more, as JSON values.
        tables: shown on a terminal before the text.
        payload: what ``--json`` prints in place of path, reused and facts; None = those.
        failed: True when what was looked at is not in order, which a program must notice.
        code: of the exit where it is not.
        location: what people are told in place of the path: the URI of what was written elsewhere.
        warnings: of the numbers that it made, worst first; shown before the tables.
    """

    path: Path
    reused: bool = False
    text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[TextTable] = ()
    payload: Any = None
    failed: bool = False
    location: str = ""
    warnings: Sequence[ResultWarning] = ()
    note: str = ""
    code: int = 2

    def to_json(self) -> Any:
        """Return what a program is told."""
        if self.payload is not None:
            return self.payload
        warned = {"warnings": [asdict(warning) for warning in self.warnings]} if self.warnings else {}
        return {"path": self.location or str(self.path), "reused": self.reused, **warned, **self.facts}
