"""What specifications are made of: their base, the markers of their fields, and how one is built."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from relope.errors import InvalidInputError, RelopeError, unknown
from relope.places import store_ref

Words = tuple[str, ...]
"""Several words: comma-separated on the command line, a list in YAML and Python."""

StoreRef = Annotated[str, BeforeValidator(store_ref)]
"""A store that is read: its folder, or a URI. (As a Path, a URI would lose a slash.)"""


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


SPECS: dict[str, "type[Spec]"] = {}
"""Step → its specification, in the order in which people are shown them."""


class Spec(BaseModel):
    """Base of all specifications; ``step`` names what it specifies, ``module`` the file that runs it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: ClassVar[str] = ""
    module: ClassVar[str] = ""

    def __init_subclass__(cls, step: str = "", module: str = "", **settings: Any) -> None:
        """Enter a step: ``class FitSpec(Spec, step="fit")`` is run by ``relope.steps.fit``."""
        super().__init_subclass__(**settings)
        if step:
            cls.step, cls.module = step, module or f"relope.steps.{step.replace(' ', '_')}"
            SPECS[step] = cls


Marker = TypeVar("Marker")


def marked(spec: type[Spec], marker: type[Marker]) -> dict[str, Marker]:
    """Return field → its marker, of the fields that have one of that type."""
    marks = ((name, mark) for name, info in spec.model_fields.items() for mark in info.metadata)
    return {name: mark for name, mark in marks if isinstance(mark, marker)}


def build(step: str, values: dict[str, Any], where: str = "") -> Spec:
    """Return the checked specification of a step.

    Args:
        step: a key of ``SPECS``.
        values: field → value; lists of names may be given as one comma-separated string.
        where: put before the message, e.g. ``pipelines.yaml: demo: fit``.

    Raises:
        InvalidInputError: a value that is not allowed.
        NotFoundError: an unknown key, with the nearest known one.
    """
    model = SPECS[step]
    prefix = f"{where}: " if where else ""
    for key in values:
        if key not in model.model_fields:
            raise unknown(f"key of {prefix}{step}", key, model.model_fields)
    split = {key: _listed(value) if _is_list(model, key) else value for key, value in values.items()}
    try:
        return model(**split)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        said, cause = first["msg"].removeprefix("Value error, "), first.get("ctx", {}).get("error")
        raise InvalidInputError(
            f"{prefix}{key}={values.get(key)!r}: {said[:1].lower()}{said[1:]}",
            hint=cause.hint if isinstance(cause, RelopeError) else "",
        ) from error


def _is_list(model: type[Spec], key: str) -> bool:
    return model.model_fields[key].annotation == Words


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(str(part) for part in value) if isinstance(value, (list, tuple)) else value
