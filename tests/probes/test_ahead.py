"""Batches made ahead of a GPU: in order, each once, and errors where they are asked for."""

import threading

import numpy as np
import pytest

from relope.probes.ahead import made_ahead, token_batches

PIECES = [np.arange(start, start + 3) for start in range(0, 60, 3)]


def test_pieces_come_in_order_and_are_made_on_other_threads():
    threads = set()

    def make(piece):
        threads.add(threading.current_thread().name)
        return piece * 2

    assert [made.tolist() for made in made_ahead(make, PIECES)] == [(piece * 2).tolist() for piece in PIECES]
    assert all(name.startswith("relope-read") for name in threads)


def test_no_more_is_made_than_a_few_ahead():
    made = []
    ahead = made_ahead(lambda piece: made.append(int(piece[0])), PIECES)
    next(ahead)
    ahead.close()
    assert len(made) <= 6


def test_one_piece_takes_no_thread():
    (name,) = made_ahead(lambda piece: threading.current_thread().name, PIECES[:1])
    assert name == threading.current_thread().name


def test_an_error_is_raised_where_its_batch_is_asked_for():
    def make(piece):
        if piece[0] == 9:
            raise OSError("the disk is gone")
        return int(piece[0])

    ahead = made_ahead(make, PIECES)
    assert [next(ahead) for _ in range(3)] == [0, 3, 6]
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_on_a_cpu_they_are_the_stores_own(store):
    ours = token_batches(store, 3, None, size=16, device="cpu", rng=np.random.default_rng(1))
    theirs = store.batches(3, size=16, rng=np.random.default_rng(1))
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.rows, other.rows) and np.array_equal(one.values, other.values)


def test_bytes_read_by_several_threads_are_all_counted(store):
    before, rows = store.bytes_read, np.arange(len(store))
    for _ in made_ahead(lambda piece: store.read(3, piece), [rows] * 12):
        pass
    assert store.bytes_read - before == 12 * int(store.index.n_tokens.sum()) * store.manifest.hidden_size * 4
