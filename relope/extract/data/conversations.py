"""The columns ``system`` and ``messages`` of a user's own rows: what was said before the question, and the question."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relope.errors import InvalidInputError
from relope.extract.data.rows import Row

ROLES = ("user", "assistant")
_MOST = 1000


@dataclass(frozen=True)
class Conversation:
    """What a row's turns say.

    Attributes:
        system: the system's text, or ``""``.
        earlier: role and text of each turn before the last.
        question: the last turn, which is the user's.
        n_shown: images that stand in turns; None where none of them says so.
        flaw: why the row cannot be used, or ``""``.
    """

    system: str
    earlier: tuple[tuple[str, str], ...] = ()
    question: str = ""
    n_shown: int | None = None
    flaw: str = ""


def conversation(row: Row) -> Conversation | None:
    """Return what a row's ``messages`` say, None where it has none.

    Each is ``{"role", "content"}``; content is text, or a list of ``{"type": "text", "text": …}`` and
    ``{"type": "image"}``, of which each takes the next of the row's images. A system's text comes first.

    Raises:
        InvalidInputError: a message of another shape, one that is not the user's at the end, or a row that says
            its question or its system's text in two ways.
    """
    given = row.cells.get("messages")
    if given is None or (isinstance(given, (str, list, tuple)) and not given):
        return None
    turns = [_turn(row, number, message) for number, message in enumerate(_listed(row, given), 1)]
    system = system_of(row)
    if turns[0][0] == "system":
        if system:
            raise InvalidInputError(
                f"{row.where} has both 'system' and a system's turn in 'messages'; give one of them"
            )
        system = "".join(part or "" for part in turns.pop(0)[1])
    for role, _ in turns:
        if role not in ROLES:
            raise InvalidInputError(f"column 'messages' in {row.where} has a turn of the system that is not the first")
    if not turns or turns[-1][0] != "user":
        said = f"ends with a turn of the {turns[-1][0]}" if turns else "has no turn of the user"
        raise InvalidInputError(
            f"column 'messages' in {row.where} {said}; the last is the user's, and what is right stands in 'answer'"
        )
    return _conversation(row, system, turns)


def system_of(row: Row) -> str:
    """Return a row's column ``system``.

    Raises:
        InvalidInputError: it is no text.
    """
    text = row.cells.get("system")
    if text is not None and not isinstance(text, str):
        raise InvalidInputError(
            f"column 'system' in {row.where} holds {type(text).__name__} {str(text)[:60]!r}; it must be text"
        )
    return text or ""


def _conversation(row: Row, system: str, turns: Sequence[tuple[str, list[str | None]]]) -> Conversation:
    n_shown = sum(part is None for _, parts in turns for part in parts)
    first = next(parts for role, parts in turns if role == "user")
    leading = next((index for index, part in enumerate(first) if part is not None), len(first))
    # Images before all text of the user's first turn stand there anyhow; elsewhere a tag says where.
    tagged = leading != n_shown
    texts, number = list[tuple[str, str]](), 0
    for role, parts in turns:
        text = ""
        for part in parts:
            number += part is None
            text += part if part is not None else f"<image {number}>" * tagged
        texts.append((role, text))
    (*earlier, (_, question)) = texts
    empty = next((number_of_turn for number_of_turn, (_, text) in enumerate(texts, 1) if not text.strip()), 0)
    asked = row.cells.get("question")
    if isinstance(asked, str) and asked.strip() and asked.strip() != question.strip():
        raise InvalidInputError(f"{row.where} has both 'question' and 'messages', whose last turn says something else")
    flaw = f"turn {empty} of its messages is empty" if empty else ""
    return Conversation(system, tuple(earlier), question, n_shown or None, flaw)


def _listed(row: Row, given: Any) -> list[Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"column 'messages' in {row.where} is no JSON: {error}") from error
    if not isinstance(given, (list, tuple)) or not 0 < len(given) <= _MOST:
        raise InvalidInputError(f"column 'messages' in {row.where} must be a list of 1–{_MOST} turns")
    return list(given)


def _turn(row: Row, number: int, message: Any) -> tuple[str, list[str | None]]:
    """Return a turn's role and its pieces: text, or None for an image."""
    where = f"turn {number} of column 'messages' in {row.where}"
    if not isinstance(message, Mapping):
        raise InvalidInputError(f"{where} must have role and content, not be {type(message).__name__}")
    held = {key: value for key, value in message.items() if value is not None}
    role = held.get("role")
    if role not in (*ROLES, "system"):
        raise InvalidInputError(f"{where} has the role {str(role)[:40]!r}; it must be system, user or assistant")
    if further := sorted(map(str, held.keys() - {"role", "content"})):
        raise InvalidInputError(f"{where} holds {further[0]!r}; only role and content are read")
    content = held.get("content", "")
    parts: list[str | None] = [content] if isinstance(content, str) else _parts(where, content)
    if None in parts and role != "user":
        raise InvalidInputError(f"{where} shows an image, which only the user's turns can")
    return str(role), parts


def _parts(where: str, content: Any) -> list[str | None]:
    if not isinstance(content, (list, tuple)):
        raise InvalidInputError(f"{where} has {type(content).__name__} as content; it must be text or a list of parts")
    parts: list[str | None] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append(part["text"])
        elif kind == "image" and not [key for key, value in part.items() if key != "type" and value is not None]:
            parts.append(None)
        else:
            raise InvalidInputError(
                f'{where} has a part {str(part)[:60]!r}; it must be {{"type": "text", "text": …}}, '
                """or {"type": "image"} for the next image of column 'images'"""
            )
    return parts
