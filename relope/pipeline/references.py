"""``${…}`` in pipelines.yaml.

``${out}`` is the pipeline's folder, ``${matrix.KEY}`` the value of this combination and
``${STAGE.FIELD}`` a field of an earlier stage. Of a stage with a matrix, those combinations are
meant that agree with this one in every key that both have: one of them stands for itself, several
make a list.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relope.errors import InvalidInputError, unknown

_REFERENCE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class StageResult:
    """One combination of an earlier stage: the values of its matrix, and the fields of its step."""

    combination: Mapping[str, Any]
    fields: Mapping[str, Any]

    def agrees(self, other: Mapping[str, Any]) -> bool:
        """Return whether two combinations have the same value in every key that both have."""
        return all(self.combination[key] == other[key] for key in self.combination.keys() & other.keys())


@dataclass(frozen=True)
class Scope:
    """What references of a stage may stand for.

    Attributes:
        made: earlier stage → its combinations.
        combination: this one's values of the matrix.
        out: the pipeline's folder.
        where: what messages call the stage.
    """

    made: Mapping[str, list[StageResult]]
    combination: Mapping[str, Any]
    out: str
    where: str


def combinations(where: str, matrix: Any) -> Iterator[dict[str, Any]]:
    """Yield every combination of a matrix, the last key varying fastest.

    Raises:
        InvalidInputError: the matrix does not map keys to lists.
    """
    if not isinstance(matrix, dict):
        raise InvalidInputError(f"{where}: matrix must map keys to lists, not {matrix!r}")
    for key, values in matrix.items():
        if not isinstance(values, list) or not values:
            raise InvalidInputError(f"{where}: matrix key {key} must be a list with something in it, not {values!r}")
    for values in itertools.product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def resolve(value: Any, scope: Scope) -> Any:
    """Put values in place of references, in strings anywhere below ``value``.

    Raises:
        NotFoundError: a reference to a stage, field or matrix key that there is not.
        InvalidInputError: several values where the text has room for one.
    """
    if isinstance(value, dict):
        return {key: resolve(item, scope) for key, item in value.items()}
    if isinstance(value, list):
        return [entry for item in value for entry in _items(item, resolve(item, scope))]
    if not isinstance(value, str):
        return value
    if "${" in _REFERENCE.sub("", value):
        raise InvalidInputError(f"{scope.where}: {value!r} has a ${{ without its }}")
    if whole := _REFERENCE.fullmatch(value):
        values = _look_up(whole[1], scope)
        return values[0] if len(values) == 1 else values

    def inside(match: re.Match[str]) -> str:
        values = _look_up(match[1], scope)
        if len(values) > 1:
            raise InvalidInputError(
                f"{scope.where}: {value!r}: ${{{match[1]}}} stands for {len(values)} values; one fits here"
            )
        return str(values[0])

    return _REFERENCE.sub(inside, value)


def _items(written: Any, given: Any) -> list[Any]:
    """Return what an item of a list gives: all values of a reference that stands for several."""
    return given if isinstance(written, str) and isinstance(given, list) else [given]


def _look_up(reference: str, scope: Scope) -> list[Any]:
    first, _, rest = reference.partition(".")
    what = f"reference in {scope.where}"
    if reference == "out":
        return [scope.out]
    if first == "matrix":
        if rest not in scope.combination:
            raise unknown(what, reference, [f"matrix.{key}" for key in scope.combination])
        return [scope.combination[rest]]
    if first not in scope.made:
        raise unknown(what, reference, ["out", "matrix", *scope.made])
    chosen = [stage.fields for stage in scope.made[first] if stage.agrees(scope.combination)]
    if not chosen:
        raise InvalidInputError(
            f"{scope.where}: ${{{reference}}}: no combination of {first} agrees with {dict(scope.combination)}"
        )
    if rest not in chosen[0]:
        raise unknown(what, reference, [f"{first}.{key}" for key in chosen[0]])
    values: list[Any] = []
    for fields in chosen:
        if fields[rest] not in values:
            values.append(fields[rest])
    return values
