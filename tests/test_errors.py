"""Errors say facts to everybody; what to type next is a hint that only the command line prints."""

import ast
import re
from pathlib import Path

import pytest

from relope.errors import InvalidInputError, NotFoundError, OutputError, RelopeError, unknown

PACKAGE = Path(__file__).parents[1] / "relope"
ERRORS = {"RelopeError", "NotFoundError", "InvalidInputError", "StoreError", "OutputError", "UnsupportedError"}
TYPED = re.compile(
    r"(?<![\w-])--[a-z]|`relope |relope (?:store|fit|extract|grade|predict|evaluate|sweep|list|caption) "
)


def texts(node: ast.AST) -> str:
    """Return all literal text below a node."""
    return "".join(
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def messages():
    """Yield the file, line and literal text of every message that an error is built with."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in ERRORS or name == "unknown":
                yield path.relative_to(PACKAGE), node.lineno, "".join(texts(value) for value in node.args[:2])


def test_no_message_says_what_to_type():
    wrong = [f"{path}:{line}: {text}" for path, line, text in messages() if TYPED.search(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", [NotFoundError, InvalidInputError, OutputError])
def test_an_error_keeps_its_hint_apart(kind):
    error = kind("no such layer 52", hint="--layers 23")
    assert str(error) == "no such layer 52" and error.lines == "no such layer 52\n--layers 23"
    assert str(error.within("fit")) == "fit: no such layer 52" and error.within("fit").hint == "--layers 23"
    assert isinstance(error.within("fit"), kind) and kind("x").lines == "x"


def test_errors_cross_processes_with_their_hint():
    import multiprocessing.reduction

    error = OutputError("disk full", hint="free space")
    again = multiprocessing.reduction.ForkingPickler.loads(multiprocessing.reduction.ForkingPickler.dumps(error))
    assert (type(again), str(again), again.hint) == (OutputError, "disk full", "free space")


def test_an_unknown_name_is_told_with_the_nearest():
    error = unknown("method", "prob", ["probe", "relope"], hint="`relope list methods`")
    assert isinstance(error, RelopeError) and isinstance(error, LookupError)
    assert str(error) == "unknown method 'prob' (there is: probe, relope); did you mean 'probe'?"
