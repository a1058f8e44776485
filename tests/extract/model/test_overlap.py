"""Work ahead of and behind the model keeps its order and its errors."""

import threading
import time

import numpy as np
import pytest
import torch

from relope.extract.model.overlap import BackgroundQueue, HostCopy, prefetch


def test_prefetch_keeps_order():
    assert list(prefetch(iter(range(50)), depth=3)) == list(range(50))


def test_prefetch_works_while_the_consumer_does():
    made = []

    def items():
        for number in range(4):
            made.append(number)
            yield number

    stream = prefetch(items(), depth=2)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(made) >= 3
    stream.close()


def test_prefetch_hands_over_an_error_after_what_came_before():
    def items():
        yield 1
        raise KeyError("x")

    stream = prefetch(items())
    assert next(stream) == 1
    with pytest.raises(KeyError):
        next(stream)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    stream = prefetch(iter(range(1000)), depth=1)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_queue_runs_in_order_and_waits():
    done = []
    with BackgroundQueue() as queue:
        for number in range(20):
            queue.submit(lambda n=number: done.append(n))
    assert done == list(range(20))


def test_queue_raises_what_a_call_raised():
    with pytest.raises(OSError, match="full"), BackgroundQueue() as queue:
        queue.submit(lambda: (_ for _ in ()).throw(OSError("full")))


def test_queue_drops_its_backlog_when_the_context_fails():
    done, gate = [], threading.Event()
    with pytest.raises(KeyboardInterrupt), BackgroundQueue(depth=4) as queue:
        queue.submit(lambda: gate.wait(5))
        queue.submit(lambda: done.append(1))
        gate_later = threading.Timer(0.1, gate.set)
        gate_later.start()
        raise KeyboardInterrupt
    assert done == []


def test_host_copy_gives_bfloat16_as_its_bits():
    values = torch.tensor([1.0, -2.5, 1e30], dtype=torch.bfloat16)
    copied = HostCopy(values).numpy()
    assert copied.dtype == np.uint16
    assert np.array_equal(copied, values.float().numpy().view(np.uint32) >> 16)
