"""Texts that end an answer: the answer ends before the first of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relope.errors import InvalidInputError

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\r": "\r", r"\\": "\\"}
_MOST, _LONGEST = 16, 200


def read_stops(texts: Sequence[str]) -> tuple[str, ...]:
    r"""Return stop texts as they are looked for, each once and in one order: ``\n`` and ``\t`` mean what they spell.

    Raises:
        InvalidInputError: one is empty or far too long, or there are too many.
    """
    if len(texts) > _MOST:
        raise InvalidInputError(f"{len(texts)} stop texts are given; at most {_MOST} are allowed")
    for text in texts:
        if not 0 < len(text) <= _LONGEST:
            raise InvalidInputError(f"a stop text must have 1 to {_LONGEST} characters (got {len(text)})")
    return tuple(sorted({_unescaped(text) for text in texts}))


def _unescaped(text: str) -> str:
    read, rest = "", text
    while rest:
        length = 2 if rest[:2] in _ESCAPES else 1
        read, rest = read + _ESCAPES.get(rest[:2], rest[0]), rest[length:]
    return read


def cut_at(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first stop text in it."""
    starts = [start for stop in stops if (start := text.find(stop)) >= 0]
    return text[: min(starts)] if starts else text


@dataclass(frozen=True)
class Stops:
    """Looks for stop texts in what is being generated.

    Attributes:
        texts: that end an answer.
        decode: token ids → text.
    """

    texts: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]

    def ended(self, ids: Sequence[int]) -> tuple[int, str] | None:
        """Return how many tokens belong to an answer that a stop text has just ended, and its text.

        None while it goes on. A token that begins before the stop text belongs to the answer, even where it
        holds the beginning of that text.
        """
        said = self.decode(ids)
        answer = cut_at(said, self.texts)
        if answer == said:
            return None
        n = len(ids)
        while n and self.decode(ids[: n - 1]).startswith(answer):
            n -= 1
        return n, answer
