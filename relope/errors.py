"""What users see when something is wrong.

::

    RelopeError
    ├── NotFoundError      (LookupError)   a name, layer, column or file that does not exist
    ├── InvalidInputError  (ValueError)    a value that is not allowed
    ├── StoreError         (ValueError)    a folder that is no store, or one that is damaged
    ├── OutputError        (OSError)       an output that cannot be written
    └── UnsupportedError   (TypeError)     a model or feature that we refuse rather than get wrong

Each message says in one or two lines what was wrong, the value, what is allowed and what to do
next. The command line prints it without a traceback and exits with 2.
"""

import difflib
from collections.abc import Iterable


class RelopeError(Exception):
    """Base of every error that is the user's to mend."""


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
        hint: what to do next, appended as a second line.
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    message = f"unknown {what} {given!r} (there is: {', '.join(names) or 'nothing'}){guess}"
    return NotFoundError(f"{message}\n{hint}" if hint else message)


def reason_of(error: BaseException) -> str:
    """Return one line that says what another library's error was about.

    The hub's errors begin with a status and a request's number; what happened stands in the next line.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    status, numbered, _ = lines[0].partition(" (Request ID")
    return f"{status.rstrip('.')}: {lines[1]}" if numbered and len(lines) > 1 else lines[0]
