"""What users see when something is wrong.

::

    RelopeError
    ├── NotFoundError      (LookupError)   a name, layer, column or file that does not exist
    ├── InvalidInputError  (ValueError)    a value that is not allowed
    ├── StoreError         (ValueError)    a folder that is no store, or one that is damaged
    ├── OutputError        (OSError)       an output that cannot be written
    └── UnsupportedError   (TypeError)     a model or feature that we refuse rather than get wrong

A message holds facts: what was wrong, the value, what is allowed. What to type next is a ``hint`` in
the language of the command line, which prints both without a traceback and exits with 2; who calls
from Python reads the message alone.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Self

from relope.redact import redacted


class RelopeError(Exception):
    """Base of every error that is the user's to mend.

    Attributes:
        hint: what to do next on the command line, or ``""``.
    """

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        """Say what was wrong, and apart from it what to type."""
        super().__init__(redacted(message))
        self.hint = redacted(hint)

    def within(self, where: str) -> Self:
        """Return the same error with the place that it happened in before the message."""
        return type(self)(f"{where}: {self}", hint=self.hint)

    @property
    def lines(self) -> str:
        """Message and hint, as the command line prints them."""
        return f"{self}\n{self.hint}" if self.hint else str(self)


class NotFoundError(RelopeError, LookupError):
    """A name, layer, column or file that does not exist."""


class InvalidInputError(RelopeError, ValueError):
    """A value that is not allowed."""


class StoreError(RelopeError, ValueError):
    """A folder that is no store, is of another format, or is damaged."""


class OutputError(RelopeError, OSError):
    """An output that cannot be written; what was sealed before is kept."""


class UnsupportedError(RelopeError, TypeError):
    """A model or feature that is refused rather than handled wrongly."""


def unknown(what: str, given: str, known: Iterable[str], hint: str = "") -> NotFoundError:
    """Build the error for an unknown name, with the nearest known one.

    Args:
        what: the kind of thing, e.g. ``"data set"``.
        given: what the user wrote.
        known: every name there is.
        hint: what to do next on the command line.
    """
    names = sorted(known)
    told = f"unknown {what} {given!r} (there is: {', '.join(names) or 'nothing'}){nearest(given, names)}"
    return NotFoundError(told, hint=hint)


def unknown_split(of: str, given: str, counts: Mapping[str, int], hint: str = "") -> NotFoundError:
    """Build the error for a split that is not there, with the samples of those that are.

    Args:
        of: the data set or the store.
        given: what the user wrote.
        counts: split → its samples.
        hint: what to do next on the command line.
    """
    there = ", ".join(f"{name} {counts[name]:,}" for name in sorted(counts)) or "nothing"
    told = f"unknown split of {of} {given!r} (there is: {there}){nearest(given, counts)}"
    return NotFoundError(told, hint=hint)


def nearest(given: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'epochs'?`` where a known name is near, ``""`` otherwise; capitals do not count."""
    plain = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(given.strip().casefold(), list(plain), n=1, cutoff=0.5)
    return f"; did you mean {plain[near[0]]!r}?" if near else ""


def reason_of(error: BaseException) -> str:
    """Return one line that says what another library's error was about.

    The hub's errors begin with a status and a request's number; what happened stands in the next line.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    status, numbered, _ = lines[0].partition(" (Request ID")
    return f"{status.rstrip('.')}: {lines[1]}" if numbered and len(lines) > 1 else lines[0]
