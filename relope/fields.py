"""What specifications are made of: their base, the markers of their fields, and how one is built."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from relope.errors import InvalidInputError, RelopeError, nearest, unknown
from relope.locations import store_ref
from relope.words import alternatives

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Words = tuple[str, ...]
"""Several words: comma-separated on the command line, a list in YAML and Python."""

StoreRef = Annotated[str, BeforeValidator(store_ref)]
"""A store that is read: its folder, or a URI. (As a Path, a URI would lose a slash.)"""


def store_refs(value: Any) -> Any:
    """Return several stores, each as `store_ref` spells it; one alone, or none, is a list too."""
    if value is None:
        return ()
    return tuple(map(store_ref, value)) if isinstance(value, (list, tuple)) else (store_ref(value),)


StoreRefs = Annotated[Words, BeforeValidator(store_refs)]
"""Several stores that are read."""


def share_of(value: Any) -> Any:
    """Return a share that is written as percents, ``20%``, as the number that it is; anything else as it came."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else value
    except ValueError:
        return value


Share = Annotated[float, BeforeValidator(share_of)]
"""A share between 0 and 1: 0.2 or 20%."""


def budget_of(value: Any) -> float:
    """Return the share of questions that may be escalated: ``0.2``, ``"0.2"`` and ``"20%"`` are the same.

    Raises:
        ValueError: it is no share, or not a whole percent from 1 to 99.
    """
    try:
        percent = 100 * float(share_of(value))
    except (TypeError, ValueError):
        percent = float("nan")
    if not (0.5 <= percent < 99.5 and abs(percent - round(percent)) < 1e-6):
        allowed = "a budget is a share of the questions in whole percents: 0.01 to 0.99, or 1% to 99%"
        raise ValueError(f"{allowed}{_share_meant(value)}")
    return round(percent) / 100


def _share_meant(value: Any) -> str:
    """Return ``; did you mean 0.2?`` for 20, and for what is written with a comma; ``""`` where nothing is near."""
    text = str(value).strip()
    if re.fullmatch(r"\d*,\d+", text):
        return f"; did you mean {text.replace(',', '.')}?"
    try:
        number = float(text)
    except ValueError:
        return ""
    return f"; did you mean {number / 100:g}?" if 2 <= number < 100 else ""


Budget = Annotated[float, BeforeValidator(budget_of)]
"""The share of questions that may be escalated, in whole percents."""


LOG_TO = "experiment tracker that numbers and settings, never a sample, are told to"
LOG_PROJECT = "project of the tracker; an experiment of mlflow"


@dataclass(frozen=True)
class Positional:
    """The field is given without a flag."""


@dataclass(frozen=True)
class Reads:
    """The field names what the step reads: a file, folder, store or several, made by an earlier step or there."""


@dataclass(frozen=True)
class Names:
    """The field names a plug-in.

    Attributes:
        kind: of plug-in, as in ``relope.registry``.
        or_path: it may also name a path (or a hub id), which then counts as an input.
        unless: a field that, when it is given, lets any name stand here.
    """

    kind: str
    or_path: bool = False
    unless: str = ""


@dataclass(frozen=True)
class KeyValues:
    """The field maps keys to values, given as ``key=value``.

    Attributes:
        example: what a message shows.
        listed: whether each key has several values, ``key=value,value``.
    """

    example: str
    listed: bool = False


@dataclass(frozen=True)
class Off:
    """The flag that says no to a switch, where ``--no-…`` would be odd."""

    flag: str


@dataclass(frozen=True)
class Verbatim:
    """The field's texts are taken as they are: commas and spaces belong to them, each is given by itself."""


@dataclass(frozen=True)
class Panel:
    """The field opens a panel of ``--help``; it and those after it stand there, up to the next that opens one."""

    title: str


@dataclass(frozen=True)
class Metavar:
    """What stands for the value in ``--help``, where the field's type and other markers do not say it well."""

    text: str


_PLAIN = str.maketrans(" -", "__")

SPECS: dict[str, "type[Spec]"] = {}
"""Step → its specification, in the order in which people are shown them."""


class Spec(BaseModel):
    """Base of all specifications.

    Attributes:
        step: what it specifies.
        module: the file that runs it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: ClassVar[str] = ""
    module: ClassVar[str] = ""

    def __init_subclass__(cls, step: str = "", module: str = "", **settings: Any) -> None:
        """Enter a step: ``class FitSpec(Spec, step="fit")`` is run by ``relope.steps.fit``."""
        super().__init_subclass__(**settings)
        if step:
            cls.step, cls.module = step, module or f"relope.steps.{step.translate(_PLAIN)}"
            SPECS[step] = cls


Marker = TypeVar("Marker")


def marked(spec: type[Spec], marker: type[Marker]) -> dict[str, Marker]:
    """Return field → its marker, of the fields that have one of that type."""
    marks = ((name, mark) for name, info in spec.model_fields.items() for mark in info.metadata)
    return {name: mark for name, mark in marks if isinstance(mark, marker)}


def panels(spec: type[Spec]) -> dict[str, str]:
    """Return field → the title of the panel that it stands in; fields before the first panel have none."""
    opened, titles = marked(spec, Panel), {}
    title = ""
    for name in spec.model_fields:
        title = opened[name].title if name in opened else title
        titles[name] = title
    return titles


def build(
    step: str, values: dict[str, Any], where: str = "", spelt: Callable[[str], str] = lambda name: f"{name}="
) -> Spec:
    """Return the checked specification of a step.

    Args:
        step: a key of ``SPECS``.
        values: field → value; lists of names may be given as one comma-separated string.
        where: put before the message, e.g. ``pipelines.yaml: demo: fit``.
        spelt: what messages call a field, up to its value: the terminal says ``--limit``.

    Raises:
        InvalidInputError: a value that is not allowed, or none where one is needed.
        NotFoundError: an unknown key, with the nearest known one.
    """
    model = SPECS[step]
    prefix = f"{where}: " if where else ""
    for key in values:
        if key not in model.model_fields:
            raise unknown(f"key of {prefix}{step}", key, model.model_fields)
    whole = marked(model, Verbatim)
    split = {
        key: _texts(value) if key in whole else _listed(value) if _is_list(model, key) else value
        for key, value in values.items()
    }
    for key, value in values.items():
        if isinstance(value, str) and key not in whole and not (split[key] if _is_list(model, key) else value.strip()):
            raise InvalidInputError(
                f"{prefix}{_spelt(spelt(key), value)} is empty", hint=_EMPTY[model.model_fields[key].is_required()]
            )
    try:
        return model(**split)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        cause = first.get("ctx", {}).get("error")
        raise InvalidInputError(
            f"{prefix}{_spelt(spelt(key), values.get(key))}: {complaint(first)}",
            hint=cause.hint if isinstance(cause, RelopeError) else "",
        ) from error


_EMPTY = {False: "leave it out for the default, or give a value", True: "give a value"}
"""Whether a field is needed → what to do where it is empty."""


def given(spec: Spec, names: Iterable[str]) -> list[str]:
    """Return those fields that have another value than without being given."""
    fields = type(spec).model_fields
    known = [name for name in names if name in fields]
    return [name for name in known if getattr(spec, name) != fields[name].get_default(call_default_factory=True)]


def refuse_given(spec: Spec, names: Iterable[str], why: str) -> None:
    """Refuse fields that a step would not read, so that nobody takes its result for another one.

    Args:
        spec: of the step.
        names: of the fields.
        why: follows them in the message, e.g. ``is not for the engine vllm``.

    Raises:
        InvalidInputError: some are given; all of those are named.
    """
    if unread := given(spec, names):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unread)
        raise InvalidInputError(f"{', '.join(unread)} {why}", hint=f"drop {flags}")


def _spelt(name: str, value: object) -> str:
    """Return a field and its value as they were given: ``limit=0`` in Python, ``--limit 0`` on the terminal."""
    return f"{name}{value!r}" if name.endswith("=") else f"{name} {value or repr(value)}"


def complaint(error: "ErrorDetails") -> str:
    """Return in our words what pydantic found wrong with a value: what is allowed."""
    kind, bounds = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", bounds["expected"])
        return f"must be {alternatives(words)}{nearest(str(error['input']), words)}"
    if kind in _MUST:
        is_share = kind == "float_parsing" or 1 in (bounds.get("lt"), bounds.get("le"))
        return f"must be {_MUST[kind].format(**bounds)}{_share_meant(error['input']) if is_share else ''}"
    said = error["msg"].removeprefix("Value error, ")
    return said[:1].lower() + said[1:]


_MUST = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    **dict.fromkeys(("string_type", "path_type"), "text"),
    "tuple_type": "a list",
    "dict_type": "a mapping of names to values",
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "missing": "given",
}
"""Kind of error → what the value must be."""


def _is_list(model: type[Spec], key: str) -> bool:
    return model.model_fields[key].annotation == Words


def _texts(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (str(value),)
    return tuple(str(part) for part in value) if isinstance(value, (list, tuple)) else value
