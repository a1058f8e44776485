"""pipelines.yaml → an ordered list of steps with checked specifications, and what each waits for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.lineage import inputs_of, output_of, related
from relope.references import Made, combinations, resolve
from relope.spec import SPECS, Spec, build

PIPELINE_KEYS = ("about", "out", "stages")
STAGE_KEYS = ("run", "with", "matrix")


@dataclass(frozen=True)
class PlannedStep:
    """One step of a pipeline.

    Attributes:
        stage: its name in the file, after that of the pipeline it was taken from, if any.
        step: what it runs.
        variant: what varies in it.
        spec: its specification.
        output: where it puts what it makes.
        needs: places in the plan of the steps that it reads from.
    """

    stage: str
    step: str
    variant: str
    spec: Spec
    output: Path
    needs: frozenset[int] = frozenset()

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
    package = Path(__file__).parent
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
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise InvalidInputError(f"{path} must map pipeline names to `about` and `stages`")
    for name, entry in found.items():
        for key in entry:
            if key not in PIPELINE_KEYS:
                raise unknown(f"key of {path}: {name}", str(key), PIPELINE_KEYS)
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
            output = output_of(body["run"], spec)
            made[stage].append(Made(combination, {**spec.model_dump(mode="json"), "out": str(output)}))
            variant = ", ".join(map(str, combination.values()))
            if not any(step.step == body["run"] and step.spec == spec for step in found):
                found.append(PlannedStep(f"{prefix}{stage}", body["run"], variant, spec, output))


def _linked(step: PlannedStep, before: list[PlannedStep]) -> PlannedStep:
    """Return a step with the places of the earlier ones that it reads from, or writes beside."""
    reads = inputs_of(step.step, step.spec)
    if step.step == "extract":
        reads.append(step.output)
    needs = frozenset(place for place, other in enumerate(before) if any(related(path, other.output) for path in reads))
    return PlannedStep(step.stage, step.step, step.variant, step.spec, step.output, needs)


def _check_stage(where: str, body: Any, pipelines: Mapping[str, Any], names: tuple[str, ...]) -> None:
    if not isinstance(body, dict) or "run" not in body:
        raise InvalidInputError(f"{where} must have a `run` (one of {', '.join(SPECS)}, or another pipeline)")
    for key in body:
        if key not in STAGE_KEYS:
            raise unknown(f"key of {where}", str(key), STAGE_KEYS)
    run = body["run"]
    if run in names:
        raise InvalidInputError(f"{where}: {run} runs itself ({' → '.join((*names, run))})")
    if run in pipelines and len(body) > 1:
        raise InvalidInputError(f"{where}: a stage that runs the pipeline {run} has no `with` or `matrix`")
    if run not in SPECS and run not in pipelines:
        raise unknown(f"step in {where}", str(run), [*SPECS, *pipelines])
