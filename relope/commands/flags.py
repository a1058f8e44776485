"""A step's command, made from its specification: every field is a flag, a switch or an argument."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from relope.errors import InvalidInputError
from relope.fields import KeyValues, Off, Positional, Spec, Words
from relope.spec import SPECS, build

CONTEXT = {"help_option_names": ["-h", "--help"]}
Run = Callable[[Spec, bool], None]
"""Runs a specification and shows what came of it, as JSON or for a person."""


def command_of(step: str, run: Run) -> Any:
    """Return the click command of a step."""
    name = step.rpartition(" ")[2]
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=CONTEXT)
    single.command(name)(_function(SPECS[step], run))
    return typer.main.get_command(single)


def _function(kind: type[Spec], run: Run) -> Callable[..., None]:
    """Return the function behind a command: it reads the flags into a specification."""
    fields = kind.model_fields

    def command(**given: Any) -> None:
        as_json = given.pop("json")
        values = {name: value for name, value in given.items() if value is not None and value != []}
        for name, value in values.items():
            if mark := _mark(fields[name], KeyValues):
                values[name] = _key_values(name, mark, value)
        run(build(kind.step, values), as_json)

    parameters = [_argument(name, info) for name, info in fields.items() if _mark(info, Positional)]
    parameters += [_option(name, info) for name, info in fields.items() if not _mark(info, Positional)]
    command.__signature__ = inspect.Signature([*parameters, _json_option()])  # type: ignore[attr-defined]
    command.__doc__ = kind.__doc__
    return command


Mark = TypeVar("Mark")


def _mark(info: FieldInfo, kind: type[Mark]) -> Mark | None:
    return next((mark for mark in info.metadata if isinstance(mark, kind)), None)


def _argument(name: str, info: FieldInfo) -> inspect.Parameter:
    kind: Any = list[str] if info.annotation == Words else str
    declared = Annotated[kind, typer.Argument(help=_help(info))]
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=declared)


def _option(name: str, info: FieldInfo) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    if info.annotation is bool:
        off = _mark(info, Off)
        flag = f"{flag}/--{off.flag if off else f'no-{flag[2:]}'}"
    kind: Any = _kind(info)
    if not info.is_required():
        kind = kind | None
    option = Annotated[kind, typer.Option(flag, help=_help(info), show_default=_worth_showing(info))]
    default = inspect.Parameter.empty if info.is_required() else _default(info)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=option, default=default)


def _kind(info: FieldInfo) -> Any:
    """Return what typer reads a value as; the specification checks it."""
    if _mark(info, KeyValues):
        return list[str]
    if info.annotation is bool:
        return bool
    return int if info.annotation in (int, int | None) else str


def _help(info: FieldInfo) -> str:
    """Return a field's description, with the values that it may have."""
    unions = [info.annotation, *get_args(info.annotation)]
    values = [value for part in unions if get_origin(part) is Literal for value in get_args(part)]
    text = f"{info.description} ({', '.join(values)})" if values else str(info.description)
    return text.replace("[", "\\[")  # which rich would read as markup, and leave out


def _worth_showing(info: FieldInfo) -> bool:
    """Return whether a default is worth showing; None, empty and False say nothing."""
    return not info.is_required() and not _mark(info, KeyValues) and bool(info.default)


def _default(info: FieldInfo) -> Any:
    if not _worth_showing(info):
        return None
    return ",".join(info.default) if isinstance(info.default, tuple) else str(info.default)


def _json_option() -> inspect.Parameter:
    option = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
    return inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, annotation=option, default=False)


def _key_values(name: str, mark: KeyValues, pairs: Sequence[str]) -> Mapping[str, Any]:
    """Read ``key=value`` or ``key=value,value`` pairs.

    Raises:
        InvalidInputError: one of them is none.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        if not key or not text:
            raise InvalidInputError(f"{name} {pair!r} must be key=value", hint=f"e.g. --{name} {mark.example}")
        values[key] = tuple(_value(word.strip()) for word in text.split(",")) if mark.listed else _value(text)
    return values


def _value(text: str) -> Any:
    """Read a value as YAML, so that numbers and booleans are such; 1e-3, which YAML reads as text, too."""
    import yaml

    try:
        return float(text) if set(".eE") & set(text) else yaml.safe_load(text)
    except ValueError:
        return yaml.safe_load(text)
