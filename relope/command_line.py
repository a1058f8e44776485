"""The command line that a specification stands for: what results say they were made by."""

import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relope.fields import KeyValues, Off, Positional, Spec, marked
from relope.redact import without_keys

UNTOLD = frozenset({"log_to", "log_project"})
"""Fields that decide nothing of a result: where a step's numbers are told besides."""

_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")


def command_line(spec: Spec) -> str:
    """Return a specification as `relope` would be given it; nobody's folders are in it.

    Results are shared: of an absolute path, or one that leads out of the working folder, only the last name
    is told, and of a URI everything but who logs in and its keys.
    """
    return _line(spec, told)


def to_type(spec: Spec) -> str:
    """Return a specification as `relope` is to be given it: what one step says to type next."""
    return _line(spec, str)


def _line(spec: Spec, tell: Callable[[Any], str]) -> str:
    kind = type(spec)
    positional, pairs, off = marked(kind, Positional), marked(kind, KeyValues), marked(kind, Off)
    words, flags = ["relope", *spec.step.split()], []
    for name, info in kind.model_fields.items():
        value = getattr(spec, name)
        if name in UNTOLD:
            continue
        if name in positional:
            words += _values(value, tell)
        elif value == info.get_default(call_default_factory=True):
            continue
        elif isinstance(value, bool):
            flag = name.replace("_", "-")
            flags.append(f"--{flag if value else off[name].flag if name in off else f'no-{flag}'}")
        else:
            given = _pairs(value, tell) if name in pairs else [",".join(_values(value, tell))]
            flags += [word for text in given for word in (f"--{name.replace('_', '-')}", text)]
    return shlex.join([*words, *flags])


def now() -> str:
    """Return the date and time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _values(value: Any, tell: Callable[[Any], str]) -> list[str]:
    return [tell(item) for item in (value if isinstance(value, (tuple, list)) else [value])]


def _pairs(value: dict[str, Any], tell: Callable[[Any], str]) -> Iterator[str]:
    for key, item in value.items():
        yield f"{key}={','.join(_values(item, tell))}"


def told(value: Any) -> str:
    """Return a value as results tell it: of a path that leads elsewhere its name, of a URI no key."""
    text = str(value)
    if text.startswith("file://"):
        return Path(text).name
    if "://" in text:
        return without_keys(_PASSWORD.sub("", text))
    path = Path(text)
    return path.name if path.is_absolute() or ".." in path.parts or text.startswith("~") else text
