"""Requests made side by side."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

N_THREADS = 8
T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], R], items: Sequence[T], halt: Callable[[], None] | None = None) -> list[R]:
    """Return the results of some requests made side by side, in order; the first error ends all.

    Args:
        work: makes one request.
        items: what to make them of.
        halt: called on an error or Ctrl-C, to let requests that are under way end early.
    """
    with ThreadPoolExecutor(N_THREADS) as pool:
        try:
            futures = [pool.submit(work, item) for item in items]
            for done in wait(futures, return_when=FIRST_EXCEPTION).done:
                done.result()
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            if halt:
                halt()
            raise
