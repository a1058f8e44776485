"""One query from Python: a bundle's decision, and the small model's answer where it is kept."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.images import decode
from relope.serve.engine import Decision, Engine, EngineSettings, Message, Query, Role, open_engine

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

Messages = str | Sequence[Mapping[str, Any]]
"""A question; or the turns of a conversation, each ``{"role": …, "content": …}``.

Content is text, or a list of texts, images (Pillow's, or the path of a file), and OpenAI's
``{"type": "text", "text": …}``; ``{"type": "image", "image": …}`` is an image, too.
"""


@dataclass(frozen=True)
class Routed:
    """Where a query goes, and the small model's answer to it.

    Attributes:
        decision: the route, the score and why.
        text: of the small model's answer; None where the query is escalated or no answer was asked for.
        n_answer_tokens: of it.
        finish: ``stop`` or ``length``, None without an answer.
    """

    decision: Decision
    text: str | None = None
    n_answer_tokens: int = 0
    finish: Literal["stop", "length"] | None = None


class Session:
    """A running engine, for callers without an event loop; one thread has the loop."""

    def __init__(self, engine: Engine) -> None:
        """Start the engine.

        Raises:
            RelopeError: the model is not the bundle's, or cannot be loaded.
        """
        self.engine, self._loop = engine, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relope-session", daemon=True)
        self._thread.start()
        try:
            self._wait(engine.start())
        except BaseException:
            self._end()
            raise

    def route(self, query: Query) -> Routed:
        """Wait for the decision, and for the whole answer."""
        return self._wait(self._routed(query))

    def close(self) -> None:
        """Stop the engine."""
        try:
            self._wait(self.engine.stop())
        finally:
            self._end()

    def _end(self) -> None:
        self._wait(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _routed(self, query: Query) -> Routed:
        ticket = self.engine.submit(query)
        decision = await ticket.decision()
        pieces = [piece async for piece in ticket.pieces()]
        if not pieces:
            return Routed(decision)
        text = "".join(piece.text for piece in pieces)
        return Routed(decision, text, sum(piece.n_tokens for piece in pieces), pieces[-1].finish)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


_sessions: dict[tuple[Path, str, EngineSettings], Session] = {}
_opening = threading.Lock()


def session(folder: Path, engine: str, settings: EngineSettings) -> Session:
    """Return the running engine of a bundle; another one that runs is stopped, so that one model is in memory."""
    key = folder.resolve(), engine, settings
    with _opening:
        if key not in _sessions:
            while _sessions:
                _sessions.popitem()[1].close()
            _sessions[key] = Session(open_engine(engine, folder, settings))
        return _sessions[key]


def close_sessions() -> None:
    """Stop the engine that `session` keeps running, and give its memory back."""
    with _opening:
        while _sessions:
            _sessions.popitem()[1].close()


def messages_of(said: Messages) -> tuple[Message, ...]:
    """Return a conversation as engines take it.

    Raises:
        InvalidInputError: a role or a piece of content of another kind, or an image that cannot be decoded.
        NotFoundError: there is no such image file.
    """
    turns = [{"role": "user", "content": said}] if isinstance(said, str) else said
    return tuple(_message(number, turn) for number, turn in enumerate(turns, 1))


def _message(number: int, turn: Mapping[str, Any]) -> Message:
    role: Any = turn.get("role")
    content = turn.get("content")
    if role not in get_args(Role):
        raise InvalidInputError(f"turn {number} has the role {role!r} (allowed: {', '.join(get_args(Role))})")
    pieces = content if isinstance(content, (list, tuple)) else [content]
    return Message(role, tuple(_part(number, piece) for piece in pieces))


def _part(number: int, piece: Any) -> "str | Image":
    if isinstance(piece, str):
        return piece
    if isinstance(piece, Mapping) and piece.get("type") == "text" and isinstance(piece.get("text"), str):
        return str(piece["text"])
    image: Any = piece.get("image") if isinstance(piece, Mapping) and piece.get("type") == "image" else piece
    if isinstance(image, (str, Path)):
        return open_image(Path(image))
    if hasattr(image, "convert"):
        opened: Image = image.convert("RGB")
        return opened
    raise InvalidInputError(f"turn {number} holds a {type(piece).__name__}, which is neither text nor an image")


def open_image(path: Path) -> "Image":
    """Return the image in a file, decoded.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it cannot be decoded.
    """
    if not path.is_file():
        raise NotFoundError(f"no image at {path}")
    try:
        return decode(path.read_bytes())
    except InvalidInputError as error:
        raise error.within(str(path)) from error
