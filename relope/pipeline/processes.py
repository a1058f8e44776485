"""Steps side by side on this machine: worker processes, each of which runs one step at a time on one thread."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from relope.errors import InvalidInputError, RelopeError
from relope.fields import Spec
from relope.steps import run
from relope.types import Outcome, Progress, Watch

TICK_S = 0.2


class Processes:
    """Worker processes, started when first needed; each runs one step at a time on one thread."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._running: dict[Future[Outcome], int] = {}
        self._context = multiprocessing.get_context("spawn")
        self._channel: Any = None
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._executor is None:
            return
        workers, failed = multiprocessing.active_children(), any(raised)
        self._executor.shutdown(wait=not failed, cancel_futures=True)
        if failed:
            for worker in workers:
                worker.terminate()

    @property
    def busy(self) -> set[int]:
        """Numbers of the steps that run."""
        return {*self._running.values()}

    def release(self) -> None:
        """Keep the processes: they hold nothing that another step may need."""

    def submit(self, number: int, title: str, spec: Spec) -> None:
        """Start a step in a worker."""
        if self._executor is None:
            self._channel = self._context.Queue()
            self._executor = ProcessPoolExecutor(self.jobs, self._context, _prepare_worker, (self._channel,))
        self._running[self._executor.submit(_work, number, spec)] = number

    def finished(self, progress: dict[int, Progress], drain: bool) -> Iterator[tuple[int, Outcome | RelopeError]]:
        """Yield steps that have ended and how: the first ones, or with ``drain`` all that run."""
        while self._running:
            done, _ = wait(self._running, TICK_S, FIRST_COMPLETED)
            while not self._channel.empty():
                number, n_done, total = self._channel.get()
                progress[number](n_done, total)
            for future in done:
                number = self._running.pop(future)
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
    warm_up()


def warm_up() -> None:
    """Load what fits import when they begin, so that their seconds are of training and not of loading."""
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401
    import torch

    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).step()


def _work(number: int, spec: Spec) -> Outcome:
    """Run a step in a worker, which tells how far it is now and then."""
    told = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done == total or time.monotonic() - told > TICK_S:
            told = time.monotonic()
            _channel.put((number, done, total))

    return run(spec, watch_by(tell))


def watch_by(tell: Progress) -> Watch:
    """Return a watch that tells everything to one."""

    @contextmanager
    def watch(label: str) -> Iterator[Progress]:
        yield tell

    return watch
