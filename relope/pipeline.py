"""pipelines.yaml → an ordered list of steps with checked specifications."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.spec import SPECS, Spec, build

STAGE_KEYS = ("run", "with", "matrix")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class PlannedStep:
    """One step of a pipeline: its stage, what varies in it, and its specification."""

    stage: str
    step: str
    variant: str
    spec: Spec


def pipelines_file() -> Path:
    """Return the pipelines.yaml of the current folder, or the one that comes with the package."""
    own = Path("pipelines.yaml")
    return own if own.is_file() else packaged_file()


def packaged_file() -> Path:
    """Return the pipelines.yaml of the package (of the checkout, in an editable install)."""
    package = Path(__file__).parent
    for path in (package / "pipelines.yaml", package.parent / "pipelines.yaml"):
        if path.is_file():
            return path
    raise NotFoundError("the package has no pipelines.yaml; install relope again")


def read_pipelines(path: Path) -> dict[str, Any]:
    """Return name → pipeline of a file.

    Raises:
        InvalidInputError: it is no YAML, or not of the form that we read.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise InvalidInputError(f"{path} must map pipeline names to `about` and `stages`")
    return found


def plan(path: Path, name: str, out: Path) -> list[PlannedStep]:
    """Return the steps of a pipeline in order.

    Args:
        path: a pipelines.yaml.
        name: the pipeline.
        out: what ``${out}`` stands for.

    Raises:
        NotFoundError: no such pipeline, stage or key; file, stage and key are named.
        InvalidInputError: a value that a specification does not allow.
    """
    pipelines = read_pipelines(path)
    if name not in pipelines:
        raise unknown(f"pipeline of {path}", name, pipelines)
    steps: list[PlannedStep] = []
    fields: dict[str, dict[str, Any]] = {}
    for stage, body in (pipelines[name].get("stages") or {}).items():
        where = f"{path}: {name}: {stage}"
        _check_stage(where, body)
        for combination in _combinations(where, body.get("matrix") or {}):
            scope = {**fields, "matrix": combination, "out": str(out)}
            given = _resolve(body.get("with") or {}, scope, where)
            spec = build(body["run"], given, where)
            fields[stage] = spec.model_dump(mode="json")
            steps.append(PlannedStep(stage, body["run"], ", ".join(map(str, combination.values())), spec))
    if not steps:
        raise InvalidInputError(f"{path}: {name} has no stages")
    return steps


def _check_stage(where: str, body: Any) -> None:
    if not isinstance(body, dict) or "run" not in body:
        raise InvalidInputError(f"{where} must have a `run` (one of {', '.join(SPECS)})")
    for key in body:
        if key not in STAGE_KEYS:
            raise unknown(f"key of {where}", key, STAGE_KEYS)
    if body["run"] not in SPECS:
        raise unknown(f"step in {where}", str(body["run"]), SPECS)


def _combinations(where: str, matrix: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, values in matrix.items():
        if not isinstance(values, list):
            raise InvalidInputError(f"{where}: matrix key {key} must be a list, not {values!r}")
    for values in itertools.product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def _resolve(value: Any, scope: Mapping[str, Any], where: str) -> Any:
    """Put values in place of references, in strings anywhere below ``value``."""
    if isinstance(value, dict):
        return {key: _resolve(item, scope, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, scope, where) for item in value]
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return _look_up(whole[1], scope, where)
    return _REFERENCE.sub(lambda match: str(_look_up(match[1], scope, where)), value)


def _look_up(reference: str, scope: Mapping[str, Any], where: str) -> Any:
    first, _, rest = reference.partition(".")
    if first not in scope:
        raise unknown(f"reference in {where}", reference, scope)
    found = scope[first]
    if not rest:
        return found
    if not isinstance(found, dict) or rest not in found:
        raise unknown(
            f"reference in {where}", reference, [f"{first}.{key}" for key in found] if isinstance(found, dict) else []
        )
    return found[rest]
