"""What the server asks of an engine: a query in; a decision, and where it is kept an answer in pieces, out.

An engine lives in ``relope/serve/engines``, one file each, and exports
``open_engine(folder: Path, settings: EngineSettings) -> Engine``. Nothing here loads torch.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from relope import registry
from relope.errors import RelopeError

if TYPE_CHECKING:
    from PIL.Image import Image

Role = Literal["system", "user", "assistant"]
Route = Literal["small", "large"]

Reason = Literal["score", "forced", "too-long", "no-images", "control-token", "template", "no-score", "engine-error"]
"""Why a query goes where it goes. ``score``: the router decided; ``forced``: the query said so; every other: the
small model or its router cannot serve it, so that it goes to the large one and ``Decision.detail`` says why.

``too-long``: the prompt is longer than the context; ``no-images``: the small model sees none; ``control-token``: the
text holds what the chat template marks turns or images by; ``template``: the chat template refuses the roles;
``no-score``: the score is no number; ``engine-error``: the engine failed on it.
"""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How an engine runs.

    Attributes:
        model: name, folder or hub id of the small model; ``""`` = where the bundle says that it comes from.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.
        batch_tokens: most tokens, padding included, that are read in one batch; a longer prompt is read alone.
        max_rows: most answers that are written at once.
        cache_tokens: most tokens, padding included, whose keys and values are held: a prompt joins where that is so
            even if every answer gets as long as it may. One that is longer by itself is answered alone.
        url: of the server that runs the small model, for engines that ask one.
        python: of the environment that such a server is started in; ``""`` = it is there.
        arguments: further ones of a server that is started.
        states: folder that it hands states over in; ``""`` = the default.
    """

    model: str = ""
    device: str = "auto"
    batch_tokens: int = 4096
    max_rows: int = 32
    cache_tokens: int = 65536
    url: str = ""
    python: str = ""
    arguments: tuple[str, ...] = ()
    states: str = ""


class EngineError(RelopeError, RuntimeError):
    """An engine that stopped, or failed in the middle of an answer."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        parts: texts and decoded images, in their order; images in the user's turns only.
    """

    role: Role
    parts: "tuple[str | Image, ...]"


@dataclass(frozen=True, kw_only=True)
class Query:
    """What one request asks of the small model.

    Attributes:
        messages: the conversation; the last turn is the user's.
        max_new_tokens: longest answer, at least 1; the rest of the context where that is shorter.
        temperature: 0 answers greedily, which is what routers are fitted on.
        top_p: smallest probability mass that is sampled from, in (0, 1].
        seed: what decides the samples, whatever else the engine does meanwhile; None draws anew each time.
        stop: texts that end the answer and are not part of it.
        threshold: score below which the query is escalated, in the units of ``Bundle.threshold``; None = the
            engine's own.
        route: forced by the client or its session; ``large`` is answered without asking the engine, or with the
            score alone (`score_only`). ``small`` is scored and answered, whatever the score.
        score_only: decide, and answer nothing.
    """

    messages: tuple[Message, ...]
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    threshold: float | None = None
    route: Route | None = None
    score_only: bool = False


@dataclass(frozen=True)
class Timing:
    """Where the time of a decision went, in seconds.

    Attributes:
        waiting: from ``submit`` until its batch began.
        prompt: of its batch, blocks 1…l (of a router that reads the answer: all blocks and the answer).
        scoring: of its batch, the router alone.
    """

    waiting: float = 0.0
    prompt: float = 0.0
    scoring: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Where a query goes, and why.

    Attributes:
        route: the model that answers.
        score: the router's, in 0–1; None where it was not computed.
        p_correct: the score calibrated, in 0–1; None without one.
        threshold: that the score was compared with.
        reason: a word of ``Reason``.
        detail: one sentence on a reason other than ``score`` and ``forced``; holds no text of the query.
        n_prompt_tokens: of the small model's prompt; 0 where it made none.
        n_answer_tokens: of the answer that was written before the decision, for a router that reads it; else 0.
        timing: where the time went.
    """

    route: Route
    threshold: float
    reason: Reason
    score: float | None = None
    p_correct: float | None = None
    detail: str = ""
    n_prompt_tokens: int = 0
    n_answer_tokens: int = 0
    timing: Timing = field(default=Timing())


@dataclass(frozen=True)
class Piece:
    """Some more of an answer.

    Attributes:
        text: whole characters, possibly none.
        token_ids: that it stands for, without the end token.
        finish: ``stop`` or ``length`` on the last piece, else None.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    finish: Literal["stop", "length"] | None = None

    @property
    def n_tokens(self) -> int:
        """How many tokens it stands for."""
        return len(self.token_ids)


@dataclass(frozen=True)
class Counters:
    """What an engine has done since it started, and what it is at; the first three are gauges.

    Attributes:
        waiting: queries that no batch has taken yet.
        deciding: queries in the batch that is being read.
        answering: rows that are being decoded.
        decided: queries with a decision, by route: ``{"small": …, "large": …}``.
        cancelled: queries whose ticket was cancelled before the end.
        failed: queries that the engine failed on.
        prompt_tokens: read through blocks 1…l.
        answer_tokens: generated.
    """

    waiting: int = 0
    deciding: int = 0
    answering: int = 0
    decided: Mapping[str, int] = field(default_factory=lambda: {"small": 0, "large": 0})
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0


class Ticket(Protocol):
    """One query within an engine."""

    async def decision(self) -> Decision:
        """Wait for the decision.

        Raises:
            EngineError: the engine stopped before it; or the query forces the small model, which cannot serve it.
        """

    def pieces(self) -> AsyncIterator[Piece]:
        """Iterate over the answer of a query that is kept; of any other there is none. To be called once.

        Raises:
            EngineError: the engine failed or stopped in the middle of the answer.
        """

    def cancel(self) -> None:
        """Give the query up: its row is freed at the next step. Any thread may call it, more than once."""


class Engine(Protocol):
    """Scores queries, and answers those that are kept.

    Attributes:
        name: of the small model, as ``/v1/models`` lists it.
        threshold: score below which a query without one of its own is escalated; may be set while running.
    """

    name: str
    threshold: float

    async def start(self) -> None:
        """Load what is needed; return when the first query can be taken.

        Raises:
            RelopeError: the model is not the bundle's, or cannot be loaded.
        """

    async def stop(self, grace: float = 30.0) -> None:
        """Take no more queries, finish those that are there within ``grace`` seconds, give the memory back."""

    def can(self, query: Query) -> tuple[Reason, str] | None:
        """Return why the small model cannot serve a query as far as that is seen at once, or None.

        What is seen only when the prompt is made (its length, its tokens) comes as the decision's reason.
        """

    def submit(self, query: Query) -> Ticket:
        """Queue a query; from the event loop, and without waiting.

        Raises:
            EngineError: the engine is not running.
        """

    def counters(self) -> Counters:
        """Return what it has done and what it is at."""

    def fault(self) -> Reason | None:
        """Return why it serves nothing now, though it was started and not stopped; None where it does."""


def open_engine(name: str, folder: Path, settings: EngineSettings | None = None) -> Engine:
    """Return an engine for the bundle in a folder, not started yet.

    Args:
        name: CLI name of the engine.
        folder: of the bundle.
        settings: how it runs.

    Raises:
        NotFoundError: there is no such engine, or no bundle.
        StoreError: the bundle was changed.
        UnsupportedError: its router cannot be served by this engine.
    """
    engine: Engine = registry.load("engines", name).open_engine(Path(folder), settings or EngineSettings())
    return engine
