"""From tokens to text that can be sent: whole characters, and nothing that may still become a stop text."""

from collections.abc import Callable, Sequence

from relope.extract.model.stops import cut_at

_WINDOW = 12
"""Tokens that are decoded together at least: what one reads as hangs on those before it."""

_BROKEN = "\ufffd"
_HELD = 16
"""Broken characters at the end of a text that may still become others; a model that writes more means them."""


Decode = Callable[[Sequence[int]], str]
"""Token ids → text."""


class Writer:
    """Turns one answer's tokens into text, piece by piece; together the pieces are the answer's text."""

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        """Begin an answer.

        Args:
            decode: token ids → text.
            stops: texts that end it.
        """
        self.decode, self.stops, self.stopped = decode, tuple(stops), False
        self._window: list[int] = []
        self._sent = 0  # characters of the window's text
        self._held = ""

    def add(self, token: int) -> str:
        """Return what a further token makes sendable, possibly nothing; sets ``stopped`` where a stop text ends it."""
        self._window.append(token)
        text = self.decode(self._window)
        broken = len(text) - len(text.rstrip(_BROKEN))
        return self._released(self._new(text, len(text) - min(broken, _HELD)))

    def end(self) -> str:
        """Return what was held back, now that the answer is over."""
        text = self.decode(self._window)
        rest = self._released(self._new(text, len(text)))
        held, self._held = self._held, ""
        return rest + held

    def _new(self, text: str, stable: int) -> str:
        """Return what of the window's text is new up to its first ``stable`` characters."""
        new = text[self._sent : stable]
        self._sent = max(self._sent, stable)
        if self._sent == len(text) and len(self._window) >= 2 * _WINDOW:
            self._window = self._window[-_WINDOW:]
            self._sent = len(self.decode(self._window))
        return new

    def _released(self, text: str) -> str:
        """Return the text in which no stop text can begin any more."""
        if self.stopped:
            return ""
        text = self._held + text
        answer = cut_at(text, self.stops)
        if answer != text:
            self.stopped, self._held = True, ""
            return answer
        ends = (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        shown = len(text) - max(ends, default=0)
        self._held = text[shown:]
        return text[:shown]
