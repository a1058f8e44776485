"""A grader of the user's own: a function of a Python file or module, run in this process as their own code.

It takes ``(response, answers, choices)``, or the first two, and ``finish_reason`` if it asks for it, and gives True,
False, None (no verdict) or a `Grade`. Its name carries its file and function, its version the digest of its source.
"""

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.extract.grading.answer_text import unified
from relope.types import Grade

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPELLED = re.compile(r"(?P<source>.+?):(?P<function>[A-Za-z_]\w*)")
_UNNAMED = re.compile(r"[^\w.+-]+")
_HOW = (
    "--grader FILE.py:function or module:function, a function of (response, answers, choices) that gives True "
    "or False; "
    "a judge is --grader judge --judge-model MODEL"
)
Function = Callable[..., Any]


def is_own(name: str) -> bool:
    """Return whether a grader's name means a function of the user's: ``FILE.py:function``, ``module:function``."""
    return ":" in name or name.endswith(".py")


def source_of(name: str) -> Path | None:
    """Return the file that ``FILE.py:function`` names; None of a module, which only its import finds."""
    source = name.rpartition(":")[0]
    return Path(source) if source.endswith(".py") else None


def open_own(name: str) -> tuple[str, str, Function]:
    """Return what a user's grader is called, its version, and the function.

    Raises:
        NotFoundError: there is no such file, module or function.
        InvalidInputError: it is spelled wrong, cannot be imported, or takes other arguments.
    """
    match = _SPELLED.fullmatch(name)
    if match is None:
        raise InvalidInputError(f"grader {name!r} names no function", hint=_HOW)
    path = source_of(name)
    module = _file_module(path) if path else _named_module(match["source"])
    content = _content(module, match["source"])
    function = getattr(module, match["function"], None)
    if function is None:
        held = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise unknown(f"function of {match['source']}", match["function"], held, _HOW)
    called = _UNNAMED.sub("-", f"{path.stem if path else match['source']}.{match['function']}").lstrip("-.+")
    return called, hashlib.sha256(content).hexdigest()[:12], _judging(name, function, match["source"])


def _content(module: ModuleType, source: str) -> bytes:
    file = inspect.getsourcefile(module) if getattr(module, "__file__", None) else None
    if file is None or not Path(file).is_file():
        raise InvalidInputError(f"grader module {source} has no Python source that its verdicts could be named by")
    return Path(file).read_bytes()


@contextmanager
def _importable(folder: Path) -> "Iterator[None]":
    """Let a module import its neighbours, as Python does for a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _file_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(f"there is no grader file {path}", hint=_HOW)
    name = f"relope_grader_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"{path} is no Python file", hint=_HOW)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importable(path.resolve().parent):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InvalidInputError(f"grader {path} cannot be imported: {_told(error, str(path))}") from error
    return module


def _named_module(name: str) -> ModuleType:
    try:
        with _importable(Path.cwd()):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise NotFoundError(f"there is no Python module {name}", hint=_HOW) from error
        raise InvalidInputError(f"grader module {name} cannot be imported: {_told(error, '')}") from error
    except Exception as error:
        raise InvalidInputError(f"grader module {name} cannot be imported: {_told(error, '')}") from error


def _told(error: BaseException, source: str) -> str:
    """Return what went wrong in the user's code, with the line of their file."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if source and frame.filename.endswith(source)
    ]
    line = line or (frames[-1].lineno if frames else None)
    said = (str(error).splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {said}" + (f" (line {line})" if line else "")


def _judging(name: str, function: Any, source: str) -> Function:
    """Return a user's function as graders are called, its verdicts checked.

    Raises:
        InvalidInputError: it takes other arguments.
    """
    if not callable(function):
        raise InvalidInputError(f"grader {name} is {type(function).__name__}, no function", hint=_HOW)
    n_given, told_why = _arguments(name, function)

    def judge(response: str, answers: Sequence[str], choices: Sequence[str] = (), finish_reason: str = "") -> Grade:
        given = (response, list(answers), list(choices))[:n_given]
        try:
            verdict = function(*given, **({"finish_reason": finish_reason} if told_why else {}))
        except Exception as error:
            raise InvalidInputError(f"grader {name} failed on {response[:60]!r}: {_told(error, source)}") from error
        return _grade(name, verdict, response)

    return judge


def _arguments(name: str, function: Function) -> tuple[int, bool]:
    """Return how many of response, answers and choices a function takes, and whether it asks for finish_reason."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return 3, False
    why = signature.parameters.get("finish_reason")
    told_why = why is not None
    extra = {"finish_reason": ""} if why is not None else {}
    for n in (3, 2):
        try:
            signature.bind(*("",) * n, **extra)
        except TypeError:
            continue
        return n, told_why
    raise InvalidInputError(f"grader {name} takes {signature}", hint=_HOW)


def _grade(name: str, verdict: Any, response: str) -> Grade:
    if isinstance(verdict, Grade):
        return verdict
    if verdict is None:
        return Grade(None, "", "unparsed")
    if isinstance(verdict, bool) or type(verdict).__name__ in ("bool_", "bool"):
        parsed = " ".join(unified(response).casefold().split())[:200]
        return Grade(bool(verdict), parsed, "parsed" if parsed else "unparsed")
    raise InvalidInputError(
        f"grader {name} gave {type(verdict).__name__} {verdict!r:.40} for {response[:60]!r}; "
        "it must give True, False, None or a Grade"
    )
