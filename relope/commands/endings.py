"""How a command ends: what went wrong as a line or two and an exit code, with ``--json`` as JSON too."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from relope.commands import console
from relope.errors import RelopeError

OK, MISTAKE, INTERRUPTED = 0, 2, 130
GOES_ON = "interrupted; what was finished is kept, the same command goes on from there"
_STDOUT_GONE = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)

ParserError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What the parser raises at a wrong flag; typer may bring a click of its own."""


def exit_code(command: Callable[[], Any], words: Sequence[str]) -> int:
    """Run a command line and return its exit code; what went wrong is told, a bug keeps its traceback.

    Args:
        command: runs it; it returns an exit code or None.
        words: what was typed, which tells whether JSON was asked for.
    """
    as_json = "--json" in words
    _mend_streams()
    try:
        os.getcwd()
        code = command()
        sys.stdout.flush()
    except RelopeError as error:
        return _told(str(error), error.hint, as_json)
    except ParserError as error:
        return _wrong_words(error, as_json)
    except SystemExit as ended:
        if ended.code != 1:
            raise
        return _no_stdout(BrokenPipeError(errno.EPIPE, ""))  # the one thing at which typer itself exits
    except KeyboardInterrupt:
        code = INTERRUPTED
    except FileNotFoundError as error:
        if _working_folder_is_there():
            raise
        return _told(f"the working folder is gone ({error.strerror})", "cd into a folder that is there", as_json)
    except OSError as error:
        if error.filename is not None or error.errno not in _STDOUT_GONE:
            raise
        return _no_stdout(error)
    if code == INTERRUPTED:
        return _told(GOES_ON, "", as_json, INTERRUPTED, "")
    return code if isinstance(code, int) else OK


def _told(message: str, hint: str, as_json: bool, code: int = MISTAKE, begin: str = "error: ") -> int:
    """Say what went wrong on stderr, as JSON on stdout too where that was asked for; return the exit code."""
    console.note(f"{begin}{message}" + (f"\n{hint}" if hint else ""))
    if as_json:
        try:
            console.out_json({"error": {"message": message, "hint": hint, "code": code}})
        except OSError as error:
            return _no_stdout(error)
    return code


def _wrong_words(error: Any, as_json: bool) -> int:
    """Say which word of the command line cannot be read; a command without words shows its help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return MISTAKE
    said = " ".join(error.format_message().split()).rstrip(".").replace("Input should be", "must be")
    if (option := getattr(error, "option_name", "")) and context:
        known = [name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)]
        near = difflib.get_close_matches(option, known, n=1)
        said = f"no such option {option}{f'; did you mean {near[0]}?' if near else ''}"
    path = context.command_path if context else "relope"
    return _told(said[:1].lower() + said[1:], f"`{path} --help` shows what there is", as_json)


def _no_stdout(error: OSError) -> int:
    """Say that results cannot be written; a reader that went away wants to hear nothing."""
    sys.stdout = console.nowhere()  # what is left to be written must not fail again when Python ends
    if error.errno != errno.EPIPE:
        console.note(f"error: cannot write to stdout: {error.strerror}")
    return MISTAKE


def _mend_streams() -> None:
    """Give a closed stream somewhere to write to, and let none stop at a letter that it cannot spell."""
    sys.stdout, sys.stderr = sys.stdout or console.nowhere(), sys.stderr or console.nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _working_folder_is_there() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
