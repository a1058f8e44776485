"""The reference as Markdown, made from specifications and docstrings: commands, Python names, methods' settings."""

import functools
import inspect
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import relope
from relope import registry
from relope.commands.examples import EXAMPLES
from relope.fields import KeyValues, Metavar, Positional, Spec, Words, marked, panels
from relope.probes.protocol import make
from relope.spec import SPECS
from relope.steps.functions import step_function

MADE = "<!-- made by recipes/reference.py -->\n\n"


def commands() -> str:
    """Return the page of every command: what it does, two examples, every argument and flag."""
    parts = [f"{MADE}# Commands\n\nEvery command also takes `--json`, `-q` and `--help`.\n"]
    parts += [command(name, kind) for name, kind in SPECS.items()]
    return "\n".join(parts)


def command(name: str, kind: type[Spec]) -> str:
    """Return the section of a command."""
    examples = "\n".join(EXAMPLES[name])
    rows = "\n".join(setting_rows(kind))
    return f"## relope {name}\n\n{escaped(inspect.cleandoc(kind.__doc__ or ''))}\n\n```\n{examples}\n```\n\n{rows}\n"


def setting_rows(kind: type[Spec]) -> Iterator[str]:
    """Yield the lines of the table of a specification's fields."""
    first, titles = marked(kind, Positional), panels(kind)
    metavars = {name: mark.text for name, mark in marked(kind, Metavar).items()}
    yield "| | takes | default | |\n|---|---|---|---|"
    panel = ""
    for name, info in kind.model_fields.items():
        if titles[name] != panel:
            panel = titles[name]
            yield f"| **{panel}** | | | |"
        flag = f"`{metavars.get(name, name.upper())}`" if name in first else f"`--{name.replace('_', '-')}`"
        takes = metavars.get(name) if name not in first else ""
        takes = takes or told_type(name, kind, info.annotation)
        default = "needed" if info.is_required() else shown(info.get_default(call_default_factory=True))
        yield f"| {flag} | {escaped(takes)} | {escaped(default)} | {escaped(info.description or '')} |"


def told_type(name: str, kind: type[Spec], annotation: Any) -> str:
    """Return what a field takes, in a word."""
    if name in marked(kind, KeyValues):
        return "key=value"
    if annotation == Words:
        return "several"
    origin = get_origin(annotation)
    if origin is Annotated:
        return told_type(name, kind, get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if origin in (Union, UnionType):
        return " or ".join(told_type(name, kind, part) for part in get_args(annotation) if part is not type(None))
    words = {bool: "switch", int: "whole number", float: "number", str: "text", Path: "path"}
    return words.get(annotation, "several" if origin is tuple else "text")


def shown(value: Any) -> str:
    """Return a default as a person types it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == {} else str(value)


def escaped(text: str) -> str:
    """Return a text as Markdown shows it in a cell, as it is; what stands in backticks stays code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.replace("``", "`").split()))
    marks = {"<": "&lt;", ">": "&gt;", "*": "\\*", "_": "\\_", "|": "\\|"}
    plain = ["".join(marks.get(letter, letter) for letter in part) for part in parts[::2]]
    code = [part.replace("|", "\\|") for part in parts[1::2]]
    return "".join(text for pair in zip_longest(plain, code, fillvalue="") for text in pair)


def python() -> str:
    """Return the page of every name of `relope`: functions of steps, what opens files, records and errors."""
    parts = [f"{MADE}# Python\n\n`import relope` gives these names; nothing heavy loads until one is used.\n"]
    for name in sorted(relope.__all__):
        if name == "__version__":
            parts.append("## relope.\\_\\_version\\_\\_\n\nThe version of the package.\n")
            continue
        parts.append(documented(f"relope.{name}", getattr(relope, name)))
    return "\n".join(parts)


def documented(name: str, value: Any) -> str:
    """Return the section of a name: its signature, its docstring, and a class's public members."""
    if inspect.ismodule(value):  # a room that is a step as well
        value = step_function(name.rpartition(".")[2])
    lines = [f"## {name}\n", f"```text\n{name.rpartition('.')[2]}{signature(value)}\n```\n"]
    lines.append(f"```text\n{inspect.getdoc(value) or ''}\n```\n")
    if inspect.isclass(value):
        for member, inner in inspect.getmembers(value, is_member):
            if not member.startswith("_") and has_docstring(value, member):
                about = (inspect.getdoc(inner) or "").splitlines()
                lines.append(f"- `{member}`: {escaped(about[0]) if about else ''}")
        lines.append("")
    return "\n".join(lines)


def is_member(value: Any) -> bool:
    return callable(value) or isinstance(value, (property, functools.cached_property))


def has_docstring(kind: type, member: str) -> bool:
    """Return whether a member of a class is one of ours, and says what it is."""
    owner = next((base for base in kind.__mro__ if member in vars(base)), object)
    return owner.__module__.startswith("relope") and bool(inspect.getdoc(vars(owner)[member]))


def signature(value: Any) -> str:
    """Return a signature, one argument a line where it is long."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    if len(text) <= 70:
        return text
    lines = [f"    {part},\n" for part in signature_parts(plain)]
    return f"(\n{''.join(lines)})"


def signature_parts(parameters: list[inspect.Parameter]) -> Iterator[str]:
    """Yield arguments as they are written, with the star before those that need their name."""
    starred = False
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield str(parameter)


def settings() -> str:
    """Return the page of every method's settings, which `--set key=value` takes."""
    parts = [f"{MADE}# Settings of methods\n\n`relope fit METHOD --set key=value` takes these.\n"]
    for name in registry.names("methods"):
        fields = type(make(name, {}).params).model_fields
        parts.append(f"## {name}\n\n{escaped(registry.summary('methods', name))}\n")
        if not fields:
            parts.append("It has none.\n")
            continue
        rows = [f"| `{key}` | {escaped(shown(info.get_default(call_default_factory=True)))} | "
                f"{escaped(info.description or '')} |" for key, info in fields.items()]  # fmt: skip
        parts.append("\n".join(["| | default | |\n|---|---|---|", *rows, ""]))
    return "\n".join(parts)
