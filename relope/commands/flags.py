"""A step's command, made from its specification: every field is a flag, a switch or an argument."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from relope import registry
from relope.commands.examples import EXAMPLES
from relope.errors import InvalidInputError
from relope.fields import KeyValues, Metavar, Names, Off, Positional, Spec, StoreRef, Verbatim, Words, panels
from relope.spec import SPECS, build

CONTEXT = {"help_option_names": ["-h", "--help"]}
_OUTPUT = "Output"
"""Panel of the switches that every step has, where its others stand in panels."""

METAVARS: dict[Any, str] = {int: "N", float: "X", Path: "PATH"}
Run = Callable[[Spec, bool, bool], None]
"""Runs a specification and shows what came of it: as JSON or for a person, with or without progress and notes."""


class Command(TyperCommand):
    """A command whose switches name no type in ``--help``, and which takes no value twice."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; ``--help`` stands in the panel of those before it."""
        *own, last = without_types(super().get_params(ctx))
        if own and last.name == "help":
            last.rich_help_panel = getattr(own[-1], "rich_help_panel", None)
        return [*own, last]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            InvalidInputError: an option that takes one value is given several times: which one was meant?
        """
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            option: Any
            for option in order:
                single = option.param_type_name == "option" and not option.multiple and not option.is_flag
                if single and order.count(option) > 1:
                    raise InvalidInputError(
                        f"{option.opts[0]} is given {order.count(option)} times and takes one value",
                        hint="give it once; lists such as --split and --layers may be repeated",
                    )
        return super().parse_args(ctx, args)


def without_types(parameters: list[Any]) -> list[Any]:
    """Return parameters whose help says ``STORE`` and not ``<str>``, and nothing behind a switch."""
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None  # its name says what it is
        elif parameter.is_flag:
            parameter.metavar = ""
    return parameters


def command_of(step: str, run: Run) -> Any:
    """Return the click command of a step."""
    name = step.rpartition(" ")[2]
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=CONTEXT)
    single.command(name, cls=Command, epilog=examples(step))(_function(SPECS[step], run))
    return typer.main.get_command(single)


def examples(command: str) -> str | None:
    """Return what stands below the flags of a command: two lines to type."""
    if command not in EXAMPLES:
        return None
    return "\n\n".join(["Examples:", *(line.replace("[", "\\[") for line in EXAMPLES[command])])


def spelt(kind: type[Spec], name: str) -> str:
    """Return what a field is called on the command line: ``--large-store``, or ``METHOD`` where it has no flag."""
    return name.upper() if _mark(kind.model_fields[name], Positional) else f"--{name.replace('_', '-')}"


def _function(kind: type[Spec], run: Run) -> Callable[..., None]:
    """Return the function behind a command: it reads the flags into a specification."""
    fields = kind.model_fields

    def command(**given: Any) -> None:
        as_json, quiet = given.pop("json"), given.pop("quiet")
        values = {name: value for name, value in given.items() if value is not None and value != []}
        for name, value in values.items():
            if mark := _mark(fields[name], KeyValues):
                values[name] = _key_values(name, mark, value)
            elif _is_joined(fields[name]):
                values[name] = ",".join(value)
        run(build(kind.step, values, spelt=lambda name: spelt(kind, name)), as_json, quiet)

    titles = panels(kind)
    parameters = [_argument(name, info) for name, info in fields.items() if _mark(info, Positional)]
    parameters += [_option(name, info, titles[name]) for name, info in fields.items() if not _mark(info, Positional)]
    command.__signature__ = inspect.Signature([*parameters, *_common(_OUTPUT if any(titles.values()) else None)])  # type: ignore[attr-defined]
    command.__doc__ = kind.__doc__
    return command


def _is_joined(info: FieldInfo) -> bool:
    """Return whether a flag takes several words at once, with commas between them."""
    return info.annotation == Words and not _mark(info, Positional) and not _mark(info, Verbatim)


Mark = TypeVar("Mark")


def _mark(info: FieldInfo, kind: type[Mark]) -> Mark | None:
    return next((mark for mark in info.metadata if isinstance(mark, kind)), None)


def _argument(name: str, info: FieldInfo) -> inspect.Parameter:
    kind: Any = list[str] if info.annotation == Words else str
    declared = Annotated[
        kind, typer.Argument(help=_help(info), metavar=_metavar(name, info), autocompletion=_completion(info))
    ]
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=declared)


def _option(name: str, info: FieldInfo, panel: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    if info.annotation is bool:
        off = _mark(info, Off)
        flag = f"{flag}/--{off.flag if off else f'no-{flag[2:]}'}"
    pairs = _mark(info, KeyValues)
    listed = info.annotation == Words or pairs is not None
    kind: Any = list[str] if listed else bool if info.annotation is bool else str
    if not info.is_required():
        kind = kind | None
    option = typer.Option(
        flag,
        help=_help(info),
        metavar=_metavar(name, info),
        show_default=False,  # the help text says it
        rich_help_panel=panel or None,
        autocompletion=_completion(info),
    )
    default = inspect.Parameter.empty if info.is_required() else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, option], default=default)


def _metavar(name: str, info: FieldInfo) -> str:
    """Return what stands for a field's value; a switch has none."""
    optional = get_origin(info.annotation) in (Union, UnionType)
    kind = get_args(info.annotation)[0] if optional else info.annotation
    if mark := _mark(info, Metavar):
        return mark.text
    if info.annotation is bool:
        return ""
    if pairs := _mark(info, KeyValues):
        return "KEY=VALUE,…" if pairs.listed else "KEY=VALUE"
    if info.annotation == Words:
        return f"{name.upper().removesuffix('S')}{'' if _mark(info, Positional) else ',…'}"
    if values := _values(info):
        return "|".join(values) if len(values) < 4 else name.upper()
    if _mark(info, BeforeValidator) or kind == StoreRef:
        return "STORE"
    return name.upper() if _mark(info, Positional) else METAVARS.get(kind, name.upper())


def _values(info: FieldInfo) -> list[str]:
    """Return the words that a field may be, where those are few."""
    unions = [info.annotation, *get_args(info.annotation)]
    return [str(value) for part in unions if get_origin(part) is Literal for value in get_args(part)]


def _help(info: FieldInfo) -> str:
    """Return a field's description, with the values that it may have, its range, its default and how it is repeated."""
    text, values = str(info.description), _values(info)
    told = [", ".join(values)] if len(values) > 3 else []
    told += [_range(info)] if _range(info) else []
    if not info.is_required() and not _mark(info, KeyValues) and info.default and "default" not in text:
        default = ",".join(info.default) if isinstance(info.default, tuple) else info.default
        told.append(f"default: {default}")
    if _is_joined(info):
        told.append("comma-separated or repeated")
    elif _mark(info, Verbatim):
        told.append("repeatable")
    text = f"{text} ({'; '.join(told)})" if told else text
    return text.replace("[", "\\[")  # which rich would read as markup, and leave out


def _range(info: FieldInfo) -> str:
    """Return the bounds of a number, ``""`` where it has none or is only not to be negative."""
    bounds = {key: getattr(mark, key) for mark in info.metadata for key in ("ge", "gt", "le") if hasattr(mark, key)}
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le")
    if high is not None:
        return f"{'above ' if 'gt' in bounds else ''}{low:,} to {high:,}"
    return f"at least {low}" if low and low > 1 else ""


def _completion(info: FieldInfo) -> Callable[[str], list[str]] | None:
    """Return what completes a value in a shell: the names of plug-ins, or the values that are allowed."""
    names, values = _mark(info, Names), _values(info)
    if names is None and not values:
        return None

    def complete(incomplete: str) -> list[str]:
        known = values or registry.names(names.kind) if names else values
        return [name for name in known if name.startswith(incomplete)]

    return complete


def _common(panel: str | None) -> list[inspect.Parameter]:
    """Return the switches that every step has."""
    texts = {
        "json": ("--json", "print the result, or the error, as JSON on stdout"),
        "quiet": ("--quiet", "-q", "no progress and no notes on stderr"),
    }
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[bool, typer.Option(*flags, help=text, rich_help_panel=panel)],
            default=False,
        )
        for name, (*flags, text) in texts.items()
    ]


def _key_values(name: str, mark: KeyValues, pairs: Sequence[str]) -> Mapping[str, Any]:
    """Read ``key=value`` pairs; where keys are listed, ``key=value,value`` and further pairs of a key add up.

    Raises:
        InvalidInputError: one of them is none, or a key is given two values.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        if not key or not text.strip(" ,"):
            raise InvalidInputError(f"{name} {pair!r} must be key=value", hint=f"e.g. --{name} {mark.example}")
        if mark.listed:
            new = tuple(_value(word.strip()) for word in text.split(",") if word.strip())
            values[key] = (*values.get(key, ()), *(value for value in new if value not in values.get(key, ())))
            continue
        value = _value(text)
        if key in values and values[key] != value:
            raise InvalidInputError(f"{name} {key} is given twice: {values[key]} and {value}", hint="drop one of them")
        values[key] = value
    return values


def _value(text: str) -> Any:
    """Read a value as YAML, so that numbers and booleans are such; 1e-3, which YAML reads as text, too."""
    import yaml

    try:
        return float(text) if set(".eE") & set(text) else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
