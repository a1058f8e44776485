"""Methods of a stack fitted out of fold, one after the other or in processes side by side: the result is the same."""

import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.probes.at_layer import load_member, make_member
from relope.probes.examples import Examples
from relope.probes.folds import Folds, out_of_fold
from relope.probes.logistic import Floats
from relope.probes.protocol import Probe
from relope.types import Progress


def all_out_of_fold(
    methods: Mapping[str, Probe], examples: Examples, folds: Folds, seed: int, progress: Progress
) -> tuple[dict[str, Floats], dict[str, Probe]]:
    """Return out-of-fold logits ``[N]`` of each method, and each fitted on all, in the order of ``methods``.

    With ``examples.jobs`` above 1 they are fitted in so many processes, each with as many threads as this one, which
    decide the order of sums. A running backbone is not sent to another process: what streams is fitted here.

    Raises:
        InvalidInputError: a process was killed.
    """
    jobs = min(examples.jobs, len(methods)) if examples.streams is None else 1
    progress(0, len(methods))
    if jobs > 1:
        return _in_processes(methods, examples, folds, seed, progress, jobs)
    said, fitted = dict[str, Floats](), dict[str, Probe]()
    for number, (name, method) in enumerate(methods.items()):
        said[name], fitted[name] = out_of_fold(method, _for(name, examples), folds, seed)
        progress(number + 1, len(methods))
    return said, fitted


def _in_processes(
    methods: Mapping[str, Probe], examples: Examples, folds: Folds, seed: int, progress: Progress, jobs: int
) -> tuple[dict[str, Floats], dict[str, Probe]]:
    context = multiprocessing.get_context("spawn")  # a fork would carry the locks of libraries that have threads
    with tempfile.TemporaryDirectory() as kept, ProcessPoolExecutor(jobs, context) as pool:
        folder_of = {name: Path(kept) / name for name in methods}
        given = {name: (name, method.params.model_dump(), examples, folds, seed) for name, method in methods.items()}
        running = {name: pool.submit(_kept, folder_of[name], *given[name]) for name in methods}
        try:
            for number, ended in enumerate(as_completed(running.values())):
                ended.result()
                progress(number + 1, len(methods))
        except BaseException as error:
            _cancel(running)
            if isinstance(error, BrokenProcessPool):
                raise InvalidInputError(
                    "a process that fitted a method was killed, most likely for want of memory",
                    hint="fit again with --jobs 1",
                ) from error
            raise
        said = {name: running[name].result() for name in methods}
        return said, {name: load_member(name, folder) for name, folder in folder_of.items()}


def _cancel(running: Mapping[str, "Future[Any]"]) -> None:
    for future in running.values():
        future.cancel()


def _kept(folder: Path, name: str, settings: dict[str, Any], examples: Examples, folds: Folds, seed: int) -> Floats:
    """Fit a method in a process of its own, keep it in a folder and return its out-of-fold logits ``[N]``."""
    said, fitted = out_of_fold(make_member(name, settings), _for(name, examples), folds, seed)
    folder.mkdir()
    fitted.save(folder)
    return said


def _for(name: str, examples: Examples) -> Examples:
    """Return the examples with a state of the method's own: one of equal shape and settings would go on from it."""
    state = examples.state
    own = None if state is None else state.with_name(f"{state.stem}.{name}{state.suffix}")
    return replace(examples, state=own)
