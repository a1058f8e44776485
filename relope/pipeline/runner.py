"""Run the steps of a pipeline: skip what is up to date, fit side by side, go on after an interruption."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self

from relope.cluster.crew import Wanted
from relope.errors import NotFoundError, RelopeError
from relope.fields import Spec
from relope.pipeline.ledger import Decision, Ledger
from relope.pipeline.plan import PlannedStep
from relope.pipeline.processes import Processes, watch_by
from relope.steps import run, step_of
from relope.types import Outcome, Progress


class Board(Protocol):
    """How the runner shows what is happening."""

    def begin(self, number: int, label: str) -> Progress:
        """Show a step that has begun and return what its progress is told to."""

    def end(self, number: int, label: str, text: str) -> None:
        """Show a step that has ended."""


class SideBySide(Protocol):
    """Runs steps side by side, in processes of this machine or on a cluster; entered before the first step.

    Attributes:
        jobs: steps at a time; 0 = every step runs in this process.
    """

    jobs: int

    @property
    def busy(self) -> set[int]:
        """Numbers of the steps that run."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...

    def submit(self, number: int, title: str, spec: Spec) -> None:
        """Start a step."""

    def release(self) -> None:
        """Give back what is reserved and not in use: the next step is to be alone."""

    def finished(self, progress: dict[int, Progress], drain: bool) -> Iterator[tuple[int, Outcome | RelopeError]]:
        """Yield steps that have ended and how: the first ones, or with ``drain`` all that run."""


@dataclass
class _Run:
    """The state of one run; numbers are those of the plan."""

    steps: list[PlannedStep]
    ledger: Ledger
    board: Board
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)

    def ready(self, busy: set[int]) -> Iterator[int]:
        """Yield steps in the plan's order whose inputs are made."""
        for number, step in enumerate(self.steps):
            if number not in self.outcomes and number not in busy and step.needs <= self.outcomes.keys():
                yield number

    def label(self, number: int) -> str:
        return f"[{number + 1}/{len(self.steps)}] {self.steps[number].title}"

    def begin(self, number: int) -> None:
        self.progress[number] = self.board.begin(number, self.label(number))

    def finish(self, number: int, outcome: Outcome) -> None:
        """Record what a step did."""
        step = self.steps[number]
        self.ledger.note(step.spec)
        self.close(number, outcome)

    def close(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        self.board.end(number, self.label(number), outcome.text)

    def named(self, number: int, error: RelopeError) -> RelopeError:
        """Return a step's error with its stage before the message."""
        return error.within(self.steps[number].title)


def default_jobs() -> int:
    """Return how many fits run side by side: the usable cores, at most 4, since each holds its own torch."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 4)


def decisions(steps: list[PlannedStep], ledger: Ledger) -> list[Decision]:
    """Return what a run would do with each step, without loading a model or running anything."""
    decided: list[Decision] = []
    for step in steps:
        upstream = sorted(number for number in step.needs if decided[number].run)
        if step.lacks:
            decided.append(Decision(True, f"cannot: {step.lacks[0]} is not there, and no step before makes it"))
        elif upstream:
            decided.append(Decision(True, f"follows {steps[upstream[0]].title}"))
        else:
            decided.append(ledger.decide(step.spec))
    return decided


def run_pipeline(
    steps: list[PlannedStep], ledger: Ledger, jobs: int, board: Board, cluster: Wanted | None = None
) -> list[Outcome]:
    """Run every step that is not up to date; return what each did, in the plan's order.

    Args:
        steps: in their order.
        ledger: what was done before.
        jobs: steps side by side, in processes of this machine.
        board: shows what happens.
        cluster: where they run instead of in those.

    Raises:
        RelopeError: a step's own; what ran beside it is finished and recorded first. Or, before
            anything has run, what `_check` finds, or that the cluster has no room.
    """
    decided = decisions(steps, ledger)
    _check(steps, decided)
    state = _Run(steps, ledger, board)
    with _side_by_side(steps, decided, jobs, cluster) as pool:
        while len(state.outcomes) < len(steps):
            _start_what_can(state, pool)
            _collect(state, pool)
    return [state.outcomes[number] for number in range(len(steps))]


def _side_by_side(steps: list[PlannedStep], decided: list[Decision], jobs: int, cluster: Wanted | None) -> SideBySide:
    """Return what runs steps side by side; what one process does as well starts neither others nor a cluster."""
    if cluster is None:
        return Processes(jobs if jobs > 1 and sum(not _alone(step) for step in steps) > 1 else 0)
    if not any(decision.run and not _alone(step) for step, decision in zip(steps, decided, strict=True)):
        return Processes(0)
    from relope.pipeline.on_cluster import OnCluster

    return OnCluster(cluster)


def _alone(step: PlannedStep) -> bool:
    """Tell whether nothing runs beside a step: it takes the whole machine, or asks a cluster for itself."""
    return step_of(step.spec).alone or getattr(step.spec, "engine", "local") != "local"


def _check(steps: list[PlannedStep], decided: list[Decision]) -> None:
    """Refuse what cannot work now, and not after the extractions that come first.

    A step that is up to date was checked before; checking it again would load torch to do nothing.

    Raises:
        NotFoundError: a step reads what nothing makes.
        InvalidInputError: a setting that a method does not have.
    """
    for step, decision in zip(steps, decided, strict=True):
        if step.lacks:
            raise NotFoundError(f"{step.title} needs {step.lacks[0]}, which is not there, and no step before makes it")
        if not decision.run:
            continue
        try:
            step_of(step.spec).check(step.spec)
        except RelopeError as error:
            raise error.within(step.title) from error


def _start_what_can(state: _Run, pool: SideBySide) -> None:
    """Start ready steps in the plan's order until the pool is full or one must wait to be alone."""
    for number in list(state.ready(pool.busy)):
        step = state.steps[number]
        decision = state.ledger.decide(step.spec)
        if not decision.run:
            state.close(number, Outcome(step.output, True, f"up to date → {step.output}"))
            continue
        alone = _alone(step) or not pool.jobs
        if len(pool.busy) >= (1 if alone else pool.jobs):
            return
        state.begin(number)
        if not alone:
            pool.submit(number, step.title, step.spec)
            continue
        pool.release()
        _run_here(state, number)
        return


def _run_here(state: _Run, number: int) -> None:
    try:
        state.finish(number, run(state.steps[number].spec, watch_by(state.progress[number])))
    except RelopeError as error:
        raise state.named(number, error) from error


def _collect(state: _Run, pool: SideBySide) -> None:
    """Take what the pool has finished, and tell the board how far the rest is."""
    failed: RelopeError | None = None
    for number, outcome in pool.finished(state.progress, drain=False):
        if isinstance(outcome, Outcome):
            state.finish(number, outcome)
        else:
            failed = failed or state.named(number, outcome)
    if failed is None:
        return
    for number, outcome in pool.finished(state.progress, drain=True):
        if isinstance(outcome, Outcome):
            state.finish(number, outcome)
    raise failed
