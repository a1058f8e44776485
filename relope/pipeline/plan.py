"""pipelines.yaml → an ordered list of steps with checked specifications, and what each waits for."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from relope import registry
from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.fields import Names, Spec, marked
from relope.pipeline.lineage import inputs_of, output_of, related, required_of
from relope.pipeline.references import Made, combinations, resolve
from relope.spec import SPECS, build
from relope.steps import step_of


class _Reader(yaml.SafeLoader):
    """YAML whose keys are text, each once: a stage that is written twice is a mistake, not a wish."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping.

        Raises:
            ConstructorError: a key comes twice.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} comes twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                key.tag = "tag:yaml.org,2002:str"
                seen.add(key.value)
        return super().construct_mapping(node, deep)


PIPELINE_KEYS = ("about", "out", "stages")
STAGE_KEYS = ("run", "with", "matrix")


@dataclass(frozen=True)
class PlannedStep:
    """One step of a pipeline.

    Attributes:
        stage: its name in the file, after that of the pipeline it was taken from, if any.
        variant: what varies in it.
        spec: what it runs.
        output: where it puts what it makes.
        needs: places in the plan of the steps that it reads from.
        lacks: what it reads that neither is there nor is made by an earlier step.
    """

    stage: str
    variant: str
    spec: Spec
    output: Path
    needs: frozenset[int] = frozenset()
    lacks: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """Return stage and variant."""
        return f"{self.stage} {self.variant}".rstrip()


def pipelines_file() -> Path:
    """Return the pipelines.yaml of the current folder, or the one that comes with the package."""
    own = Path("pipelines.yaml")
    return own if own.is_file() else packaged_file()


def packaged_file() -> Path:
    """Return the pipelines.yaml of the package (of the checkout, in an editable install)."""
    package = Path(__file__).parents[1]
    for path in (package / "pipelines.yaml", package.parent / "pipelines.yaml"):
        if path.is_file():
            return path
    raise NotFoundError("the package has no pipelines.yaml; install relope again")


def read_pipelines(path: Path) -> dict[str, Any]:
    """Return name → pipeline of a file.

    Raises:
        InvalidInputError: it is no YAML, or not of the form that we read.
        NotFoundError: a pipeline has a key that there is not.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = yaml.load(file, _Reader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise InvalidInputError(f"{path} must map pipeline names to `about` and `stages`")
    for name, entry in found.items():
        for key in entry:
            if key not in PIPELINE_KEYS:
                raise unknown(f"key of {path}: {name}", key, PIPELINE_KEYS)
        _check_mapping(f"{path}: {name}: stages", entry.get("stages"))
    return found


def default_out(path: Path, name: str) -> Path:
    """Return the folder that a pipeline's ``${out}`` stands for when none is given."""
    entry = read_pipelines(path).get(name) or {}
    return Path(str(entry.get("out") or Path("runs") / name))


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
    found: list[PlannedStep] = []
    _add(found, path, pipelines, (name,), out)
    if not found:
        raise InvalidInputError(f"{path}: {name} has no stages")
    return [_linked(step, found[:place]) for place, step in enumerate(found)]


def _add(found: list[PlannedStep], path: Path, pipelines: dict[str, Any], names: tuple[str, ...], out: Path) -> None:
    """Append the steps of the pipeline ``names[-1]``, which the others before it run."""
    made: dict[str, list[Made]] = {}
    prefix = "".join(f"{name}: " for name in names[1:])
    for stage, body in (pipelines[names[-1]].get("stages") or {}).items():
        where = f"{path}: {names[-1]}: {stage}"
        _check_stage(where, body, pipelines, names)
        if body["run"] in pipelines:
            _add(found, path, pipelines, (*names, body["run"]), out)
            continue
        made[stage] = []
        for combination in combinations(where, body.get("matrix") or {}):
            given = resolve(body.get("with") or {}, made, combination, str(out), where)
            spec = build(body["run"], given, where)
            _check_names(where, spec)
            output = output_of(spec)
            made[stage].append(Made(combination, {**spec.model_dump(mode="json"), "out": str(output)}))
            variant = ", ".join(map(str, combination.values()))
            if not any(step.spec == spec for step in found):
                found.append(PlannedStep(f"{prefix}{stage}", variant, spec, output))


def _linked(step: PlannedStep, before: list[PlannedStep]) -> PlannedStep:
    """Return a step with the places of the earlier ones that it reads from, or writes beside."""
    reads = inputs_of(step.spec)
    if step_of(step.spec).grows:
        reads.append(step.output)
    needs = frozenset(place for place, other in enumerate(before) if any(related(path, other.output) for path in reads))
    missing = [path for path in required_of(step.spec) if not path.exists()]
    lacks = [path for path in missing if not any(related(path, other.output) for other in before)]
    return replace(step, needs=needs, lacks=tuple(lacks))


def _check_mapping(where: str, value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        raise InvalidInputError(f"{where} must map names to values, not {value!r}")


def _check_names(where: str, spec: Spec) -> None:
    """Refuse names that there are not before anything has run; some fields also take a path or a hub id."""
    for field, mark in marked(type(spec), Names).items():
        name, known = getattr(spec, field), registry.names(mark.kind)
        if not name or name in known:
            continue
        elsewhere = mark.or_path and (set("/\\.:") & set(name) or Path(name).exists())
        if not elsewhere and not (mark.unless and getattr(spec, mark.unless)):
            raise unknown(f"{field} in {where}", name, known)


def _check_stage(where: str, body: Any, pipelines: Mapping[str, Any], names: tuple[str, ...]) -> None:
    if not isinstance(body, dict) or not isinstance(body.get("run"), str):
        raise InvalidInputError(f"{where} must have a `run` (one of {', '.join(SPECS)}, or another pipeline)")
    for key in body:
        if key not in STAGE_KEYS:
            raise unknown(f"key of {where}", key, STAGE_KEYS)
    _check_mapping(f"{where}: with", body.get("with"))
    run = body["run"]
    if run in names:
        raise InvalidInputError(f"{where}: {run} runs itself ({' → '.join((*names, run))})")
    if run in pipelines and len(body) > 1:
        raise InvalidInputError(f"{where}: a stage that runs the pipeline {run} has no `with` or `matrix`")
    if run not in SPECS and run not in pipelines:
        raise unknown(f"step in {where}", run, [*SPECS, *pipelines])
