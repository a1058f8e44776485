"""A worker within Ray: jobs wait in a queue before one thread that does them, so that the next is there in time."""

import importlib
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from relope.errors import NotFoundError, RelopeError

_DEAD_CARD = 70
"""Exit code of a worker whose card no longer computes."""

Job = tuple[int, Any]
"""A job's number, and what is to be done."""


class Worker(Protocol):
    """What a worker does its jobs by: named ``module:Class``, made from JSON values with the first job."""

    def work(self, jobs: Iterator[Job], ended: Callable[[int, Any], None], tell: Callable[[Any], None]) -> None:
        """Do the jobs that wait; whatever comes later comes with another call.

        Args:
            jobs: those that are there; may be asked for ahead, and on another thread.
            ended: to be told a job's number and result, or the `RelopeError` that refuses it.
            tell: to be told, as often as wanted, how far it is.

        Raises:
            RelopeError: none of its jobs can be done.
        """


class Actor:
    """The actor: two threads that ask it are never two that compute."""

    def __init__(self, worker: str, asked: Mapping[str, Any], has_cards: bool) -> None:
        """Load nothing yet: what goes wrong then could not be told from a machine that is gone."""
        if not has_cards:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # nothing is reserved for it
        self._name, self._asked = worker, asked
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._results: dict[int, Future[Any]] = {}
        self._lock, self._working = threading.Lock(), False
        self._told: Any = None

    def do(self, number: int, job: Any) -> Any:
        """Do a job behind those that wait; return its result, or the error that refuses it."""
        result: Future[Any] = Future()
        with self._lock:
            self._results[number] = result
            self._jobs.put((number, job))
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="relope-worker", daemon=True).start()
        try:
            return result.result()
        except RelopeError as error:
            return error

    def told(self) -> Any:
        """Return what was told of the job that is worked at; answered beside `do`."""
        return self._told

    def _work(self) -> None:
        try:
            module, _, name = self._name.partition(":")
            worker: Worker = getattr(importlib.import_module(module), name)(self._asked)
            while True:
                worker.work(chain([self._jobs.get()], self._waiting()), self._end, self._tell)
        except BaseException as error:  # noqa: BLE001  (handed to all who wait, and raised there)
            if isinstance(error, RuntimeError) and not isinstance(error, RelopeError) and _card_is_dead():
                os._exit(_DEAD_CARD)  # no call to such a card ever succeeds again
            self._fail(error)

    def _waiting(self) -> Iterator[Job]:
        while not self._jobs.empty():
            yield self._jobs.get()

    def _end(self, number: int, result: Any) -> None:
        self._told = None
        self._results.pop(number).set_result(result)

    def _tell(self, told: Any) -> None:
        self._told = told

    def _fail(self, error: BaseException) -> None:
        """Fail every job that is there; the next one makes another worker."""
        with self._lock:
            failed, self._results, self._working, self._told = [*self._results.values()], {}, False, None
            self._jobs = queue.SimpleQueue()
        for result in failed:
            result.set_exception(error)


def _card_is_dead() -> bool:
    """Tell whether a card that is in use no longer computes."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        return float(torch.ones(2, device="cuda").sum()) != 2
    except RuntimeError:
        return True


def enter(folder: str) -> None:
    """Go to the folder in which the command was typed: paths that were given are relative to it.

    Raises:
        NotFoundError: it is not to be seen from here.
    """
    if not Path(folder).is_dir():
        raise not_seen(folder)
    os.chdir(folder)


def not_seen(path: str | Path) -> NotFoundError:
    """Return the error for what a worker needs and does not see."""
    return NotFoundError(
        f"{path} is not to be seen on {socket.gethostname()}, where a worker runs",
        hint="put store and data on a shared folder",
    )
