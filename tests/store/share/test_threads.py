"""Requests made side by side: in order, and the first error ends all."""

import threading

import pytest

from relope.store.share import threads
from relope.store.share.threads import in_threads


def test_results_are_in_the_order_of_the_items():
    start = threading.Barrier(threads.N_THREADS)

    def work(item):
        start.wait()  # all of them at once
        return item * item

    assert in_threads(work, range(threads.N_THREADS)) == [item * item for item in range(threads.N_THREADS)]
    assert in_threads(work, []) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_begun_after_an_error(monkeypatch, error):
    monkeypatch.setattr(threads, "N_THREADS", 1)
    begun, halted = [], []

    def work(item):
        begun.append(item)
        if item == 2:
            raise error("the third")

    for _ in range(50):
        begun.clear()
        with pytest.raises(error, match="the third"):
            in_threads(work, range(100), lambda: halted.append(list(begun)))
        assert begun == [0, 1, 2]
    assert len(halted) == 50 and all(seen == [0, 1, 2] for seen in halted)


def test_the_first_error_is_the_one_that_is_told():
    """What is under way is told to end, and its own complaint about that is not what went wrong."""
    told, under_way = threading.Event(), threading.Barrier(2)

    def work(item):
        under_way.wait()
        if item == 0:
            raise ValueError("what went wrong")
        told.wait()
        raise OSError("ended since another one failed")

    with pytest.raises(ValueError, match="what went wrong"):
        in_threads(work, range(2), told.set)


def test_an_interruption_of_the_caller_ends_what_is_under_way(monkeypatch):
    told, begun = threading.Event(), []

    def interrupted(futures):
        raise KeyboardInterrupt

    def work(item):
        begun.append(item)
        told.wait()

    monkeypatch.setattr(threads, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_threads(work, range(1000), told.set)
    assert len(begun) <= threads.N_THREADS
