import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from made_stores import Made

from relope.errors import InvalidInputError, StoreError
from relope.store import ActivationStore


def expected(made: Made, rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.concatenate([made.captures["abcdefg"[row]].hidden[2] for row in rows.tolist()])


@pytest.mark.parametrize("size", [1, 2, 7])
def test_reading_ahead_gives_the_same_and_keeps_a_batch_until_the_next(kept: Made, size: int) -> None:
    store = ActivationStore.open(kept.path)
    seen = []
    for batch in store.batches(2, [6, 5, 1, 0, 3], size=size, prefetch=True):
        for _ in range(3):  # the thread writes meanwhile, and must not write here
            np.testing.assert_array_equal(batch.values, expected(kept, batch.rows))
        seen += batch.rows.tolist()
    assert seen == [6, 5, 1, 0, 3]
    assert list(store.batches(2, [], size=1, prefetch=True)) == []


def test_a_loop_that_is_left_leaves_no_thread(kept: Made) -> None:
    before = threading.active_count()
    batches = ActivationStore.open(kept.path).batches(2, size=1, prefetch=True)
    next(batches)
    del batches
    gc.collect()
    assert threading.active_count() == before


def test_an_error_ahead_is_raised_where_its_batch_is_asked_for(made: Made) -> None:
    shard = made.folder(1) / "hidden/2/c/0/0"
    shard.write_bytes(b"\0" + shard.read_bytes()[1:])
    batches = ActivationStore.open(made.path).batches(2, size=3, prefetch=True)
    assert next(batches).rows.tolist() == [0, 1, 2]
    with pytest.raises(StoreError, match="CRC of chunk 0"):
        next(batches)


def test_memory_is_used_again_only_when_nobody_holds_it(kept: Made) -> None:
    store = ActivationStore.open(kept.path)
    (first,) = store.batches(2, [1], size=1)
    values = first.values.copy()
    (second,) = store.batches(2, [3], size=1)
    places = {first.values.ctypes.data, second.values.ctypes.data}
    assert len(places) == 2
    np.testing.assert_array_equal(first.values, values)
    view = first.values[3:]
    del first, second
    (third,) = store.batches(2, [0], size=1)
    np.testing.assert_array_equal(view, values[3:])
    del view, third
    gc.collect()
    (fourth,) = store.batches(2, [0], size=1)
    assert fourth.values.ctypes.data in places


def test_a_buffer_of_the_callers(kept: Made) -> None:
    store = ActivationStore.open(kept.path)
    out = np.zeros((600, 6), np.uint16)
    for batch in store.batches(2, size=2, out=out):
        assert np.shares_memory(batch.values, out)
        np.testing.assert_array_equal(out[: len(batch.values)], expected(kept, batch.rows))
    read = store.read(2, [5, 0], out)
    assert np.shares_memory(read.values, out)
    np.testing.assert_array_equal(read.values, expected(kept, read.rows))
    assert read.offsets.tolist() == [0, 512, 515]
    for wrong in (out[:511], out.astype(np.float32), np.zeros((600, 7), np.uint16), out[:, ::-1], out[::2]):
        with pytest.raises(InvalidInputError, match="out is"):
            store.batches(2, size=1, out=wrong)
    with pytest.raises(InvalidInputError, match="do not go together"):
        store.batches(2, size=1, out=out, prefetch=True)
    with pytest.raises(InvalidInputError, match="give size"):
        store.batches(2)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("prefetch", [False, True])
def test_padded(kept: Made, left: bool, prefetch: bool) -> None:
    store, seen = ActivationStore.open(kept.path), []
    # lengths 3 300 1 257 40 512 7; 900 holds 3 x 300, then 257 + 40 as 2 x 257, then 512 alone, then 7
    for batch in store.padded_batches(2, max_tokens=900, left=left, prefetch=prefetch):
        seen.append(batch.rows.tolist())
        longest = int(batch.lengths.max())
        assert batch.values.shape == (len(batch.rows), longest, 6) and batch.mask.sum() == batch.lengths.sum()
        for values, mask, row in zip(batch.values, batch.mask, batch.rows.tolist(), strict=True):
            own = kept.captures["abcdefg"[row]].hidden[2]
            rest = np.zeros((longest - len(own), 6), np.uint16)
            np.testing.assert_array_equal(values, np.concatenate([rest, own] if left else [own, rest]))
            np.testing.assert_array_equal(values[mask], own)
    assert seen == [[0, 1, 2], [3, 4], [5], [6]]


def test_more_arrays_than_stay_open(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relope.store.reader._MAPPED_ARRAYS", 2)
    store = ActivationStore.open(made.path)
    for _ in range(2):
        for batch in store.batches(2, size=1):
            np.testing.assert_array_equal(batch.values, expected(made, batch.rows))
    assert Path("/proc/self/maps").read_text().count(str(made.path)) <= 2
