"""pipelines.yaml → an ordered list of steps with checked specifications, and what each waits for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relope import registry
from relope.errors import InvalidInputError, unknown
from relope.fields import Names, Spec, marked
from relope.pipeline.file import check_mapping, read_pipelines
from relope.pipeline.lineage import inputs_of, output_of, related, required_of
from relope.pipeline.references import Scope, StageResult, combinations, resolve
from relope.spec import SPECS, build
from relope.steps import step_of

STAGE_KEYS = ("run", "with", "matrix")


@dataclass(frozen=True)
class PlannedStep:
    """One step of a pipeline.

    Attributes:
        stage: its name in the file, after that of the pipeline it was taken from, if any.
        variant: what varies in it.
        spec: what it runs.
        output: where it puts what it makes.
        needs: numbers, in the plan, of the steps that it reads from.
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
    _add(steps, path, pipelines, (name,), out)
    if not steps:
        raise InvalidInputError(f"{path}: {name} has no stages")
    return [_linked(step, steps[:number]) for number, step in enumerate(steps)]


def _add(steps: list[PlannedStep], path: Path, pipelines: dict[str, Any], names: tuple[str, ...], out: Path) -> None:
    """Append the steps of the pipeline ``names[-1]``, which the others before it run."""
    made: dict[str, list[StageResult]] = {}
    prefix = "".join(f"{name}: " for name in names[1:])
    for stage, body in (pipelines[names[-1]].get("stages") or {}).items():
        where = f"{path}: {names[-1]}: {stage}"
        _check_stage(where, body, pipelines, names)
        if body["run"] in pipelines:
            _add(steps, path, pipelines, (*names, body["run"]), out)
            continue
        made[stage] = []
        for combination in combinations(where, body.get("matrix") or {}):
            given = resolve(body.get("with") or {}, Scope(made, combination, str(out), where))
            spec = build(body["run"], given, where)
            _check_names(where, spec)
            output = output_of(spec)
            made[stage].append(StageResult(combination, {**spec.model_dump(mode="json"), "out": str(output)}))
            variant = ", ".join(map(str, combination.values()))
            if not any(step.spec == spec for step in steps):
                steps.append(PlannedStep(f"{prefix}{stage}", variant, spec, output))


def _linked(step: PlannedStep, before: list[PlannedStep]) -> PlannedStep:
    """Return a step with the places of the earlier ones that it reads from, or writes beside."""
    reads = inputs_of(step.spec)
    if step_of(step.spec).grows:
        reads.append(step.output)
    needs = frozenset(
        number for number, earlier in enumerate(before) if any(related(path, earlier.output) for path in reads)
    )
    missing = [path for path in required_of(step.spec) if not path.exists()]
    lacks = [path for path in missing if not any(related(path, earlier.output) for earlier in before)]
    return replace(step, needs=needs, lacks=tuple(lacks))


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
    check_mapping(f"{where}: with", body.get("with"))
    run = body["run"]
    if run in names:
        raise InvalidInputError(f"{where}: {run} runs itself ({' → '.join((*names, run))})")
    if run in pipelines and len(body) > 1:
        raise InvalidInputError(f"{where}: a stage that runs the pipeline {run} has no `with` or `matrix`")
    if run not in SPECS and run not in pipelines:
        raise unknown(f"step in {where}", run, [*SPECS, *pipelines])
