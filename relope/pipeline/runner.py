"""Run the steps of a pipeline: skip what is up to date, fit side by side, go on after an interruption."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.fields import Spec
from relope.pipeline.ledger import Decision, Ledger
from relope.pipeline.plan import PlannedStep
from relope.steps import run, step_of
from relope.types import Outcome, Progress

TICK_S = 0.2


class Board(Protocol):
    """How the runner shows what is happening."""

    def begin(self, number: int, label: str) -> Progress:
        """Show a step that has begun and return what its progress is told to."""

    def end(self, number: int, label: str, text: str) -> None:
        """Show a step that has ended."""


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


def run_pipeline(steps: list[PlannedStep], ledger: Ledger, jobs: int, board: Board) -> list[Outcome]:
    """Run every step that is not up to date; return what each did, in the plan's order.

    Raises:
        RelopeError: a step's own; what ran beside it is finished and recorded first. Or, before
            anything has run, what `_check` finds.
    """
    _check(steps, decisions(steps, ledger))
    state = _Run(steps, ledger, board)
    with _Pool(jobs if jobs > 1 and _worth_a_pool(steps) else 0) as pool:
        while len(state.outcomes) < len(steps):
            _start_what_can(state, pool)
            _collect(state, pool)
    return [state.outcomes[number] for number in range(len(steps))]


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


def _worth_a_pool(steps: list[PlannedStep]) -> bool:
    return sum(not step_of(step.spec).alone for step in steps) > 1


def _start_what_can(state: _Run, pool: "_Pool") -> None:
    """Start ready steps in the plan's order until the pool is full or one must wait to be alone."""
    for number in list(state.ready(set(pool.running.values()))):
        step = state.steps[number]
        decision = state.ledger.decide(step.spec)
        if not decision.run:
            state.close(number, Outcome(step.output, True, f"up to date → {step.output}"))
            continue
        alone = step_of(step.spec).alone or not pool.jobs
        if len(pool.running) >= (1 if alone else pool.jobs):
            return
        state.begin(number)
        if not alone:
            pool.submit(number, step)
            continue
        _run_here(state, number)
        return


def _run_here(state: _Run, number: int) -> None:
    @contextmanager
    def watch(label: str) -> Iterator[Progress]:
        yield state.progress[number]

    try:
        state.finish(number, run(state.steps[number].spec, watch))
    except RelopeError as error:
        raise state.named(number, error) from error


def _collect(state: _Run, pool: "_Pool") -> None:
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


class _Pool:
    """Worker processes, started when first needed; each runs one step at a time on one thread."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.running: dict[Future[Outcome], int] = {}
        self._context = multiprocessing.get_context("spawn")
        self._channel: Any = None
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._executor is None:
            return
        workers = multiprocessing.active_children()
        self._executor.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for worker in workers:
                worker.terminate()

    def submit(self, number: int, step: PlannedStep) -> None:
        """Start a step in a worker."""
        if self._executor is None:
            self._channel = self._context.Queue()
            self._executor = ProcessPoolExecutor(self.jobs, self._context, _prepare_worker, (self._channel,))
        self.running[self._executor.submit(_work, number, step.spec)] = number

    def finished(self, progress: dict[int, Progress], drain: bool) -> Iterator[tuple[int, Outcome | RelopeError]]:
        """Yield steps that have ended and how: the first ones, or with ``drain`` all that run."""
        while self.running:
            done, _ = wait(self.running, TICK_S, FIRST_COMPLETED)
            while not self._channel.empty():
                number, n_done, total = self._channel.get()
                progress[number](n_done, total)
            for future in done:
                number = self.running.pop(future)
                try:
                    yield number, future.result()
                except RelopeError as error:
                    yield number, error
                except BrokenProcessPool as error:
                    raise InvalidInputError(
                        "a worker process was killed, most likely for want of memory; what was finished is kept",
                        hint="run again with --jobs 1",
                    ) from error
            if done and not drain:
                return


_channel: Any = None
"""In a worker: where progress is sent."""


def _prepare_worker(channel: Any) -> None:
    """Leave interrupts to the parent, and use one thread: several libraries read this when they load."""
    global _channel
    _channel = channel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1"))
    _warm_up()


def _warm_up() -> None:
    """Load what fits import when they begin, so that their seconds are of training and not of loading."""
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401
    import torch

    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).step()


def _work(number: int, spec: Spec) -> Outcome:
    """Run a step in a worker."""

    @contextmanager
    def watch(label: str) -> Iterator[Progress]:
        told = 0.0

        def tell(done: int, total: int) -> None:
            nonlocal told
            if done == total or time.monotonic() - told > TICK_S:
                told = time.monotonic()
                _channel.put((number, done, total))

        yield tell

    return run(spec, watch)
