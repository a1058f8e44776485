"""Requests made side by side."""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from typing import TypeVar

N_THREADS = 8
T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], R], items: Sequence[T], halt: Callable[[], None] | None = None) -> list[R]:
    """Return the results of some requests made side by side, in order; after an error none is begun.

    Args:
        work: makes one request.
        items: what to make them of.
        halt: called on an error or Ctrl-C, to let requests that are under way end early.

    Raises:
        BaseException: the first error; what the requests that it ended say of it is dropped.
    """
    errors: list[BaseException] = []

    def stop(error: BaseException) -> None:
        errors.append(error)
        if halt:
            halt()

    def attempt(item: T) -> R:
        # In the thread that failed: who waits for it may wake up long after others have begun the next requests.
        if errors:
            raise CancelledError
        try:
            return work(item)
        except BaseException as error:
            stop(error)
            raise

    with ThreadPoolExecutor(N_THREADS) as pool:
        futures = [pool.submit(attempt, item) for item in items]
        try:
            wait(futures)
        except BaseException as error:
            stop(error)
            raise
    if errors:
        raise errors[0]
    return [future.result() for future in futures]
