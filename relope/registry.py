"""Plug-ins: one file, one plug-in, imported only when used.

A plug-in's name is its file's name with ``_`` for every character outside ``[a-z0-9]``, or the
literal ``NAME = "…"`` in the file, which is read without importing it. Other packages add
plug-ins through entry points of the groups ``relope.backbones``, ``relope.datasets``,
``relope.engines`` (of ``serve``), ``relope.extract_engines``, ``relope.graders``, ``relope.importers`` and
``relope.methods``; an entry point names a module.
"""

import functools
import importlib
import re
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from relope.errors import unknown

FOLDERS = {
    "backbones": ("model", "extract/backbones"),
    "datasets": ("data set", "extract/datasets"),
    "engines": ("engine of serve", "serve/engines"),
    "extract_engines": ("engine of extract", "extract/engines"),
    "graders": ("grader", "extract/graders"),
    "importers": ("importer", "extract/importers"),
    "methods": ("method", "probes/methods"),
}
"""Kind → (what messages call it, its folder in the package)."""

_NAME = re.compile(r'^NAME(?:: \w+)? = "([^"]+)"$', re.MULTILINE)
_VERSION = re.compile(r'^VERSION(?:: \w+)? = (?:"?([\w.]+)"?$)?', re.MULTILINE)
"""Its first group is empty where a version is put together when the module runs."""
_SUMMARY = re.compile(r'^r?"""(.+?)(?:"""|$)', re.MULTILINE)


@functools.cache
def _files(kind: str) -> dict[str, Path]:
    folder = Path(__file__).parent / FOLDERS[kind][1]
    files = {}
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith("_"):
            literal = _NAME.search(path.read_text(encoding="utf-8"))
            files[literal[1] if literal else path.stem.replace("_", "-")] = path
    return files


def _module(kind: str, path: Path) -> str:
    return f"relope.{FOLDERS[kind][1].replace('/', '.')}.{path.stem}"


@functools.cache
def _entry_points(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"relope.{kind}")}


def names(kind: str) -> list[str]:
    """Return the names of every plug-in of a kind, without importing any."""
    return sorted({*_files(kind), *_entry_points(kind)})


def summary(kind: str, name: str) -> str:
    """Return the first line of a plug-in's docstring, without importing it."""
    path = _files(kind).get(name)
    if path is None:
        return f"from {_entry_points(kind)[name].value}"
    summary_line = _SUMMARY.search(path.read_text(encoding="utf-8"))
    return summary_line[1].strip() if summary_line else ""


def module_name(kind: str, name: str) -> str | None:
    """Return the module of a plug-in of ours, None where it is another package's or unknown."""
    path = _files(kind).get(name)
    return None if path is None else _module(kind, path)


def load(kind: str, name: str) -> ModuleType:
    """Import and return the module of a plug-in.

    Raises:
        NotFoundError: there is none of that name; the message lists them all.
    """
    if name in (files := _files(kind)):
        return importlib.import_module(_module(kind, files[name]))
    if name in (points := _entry_points(kind)):
        return importlib.import_module(points[name].value)
    raise unknown(FOLDERS[kind][0], name, names(kind), f"`relope list {_LISTED[kind]}` shows what each one is")


def version(kind: str, name: str) -> str:
    """Return the ``VERSION`` of a plug-in, ``""`` where it has none; raised when results change."""
    path = _files(kind).get(name)
    if path is None or _module(kind, path) in sys.modules:
        return str(getattr(load(kind, name), "VERSION", ""))
    written = _VERSION.search(path.read_text(encoding="utf-8"))
    if written and not written[1]:
        return str(load(kind, name).VERSION)
    return written[1] if written else ""


_LISTED = {kind: {"backbones": "models", "extract_engines": "engines"}.get(kind, kind) for kind in FOLDERS}
