import gc
from pathlib import Path

import numpy as np
import pytest
from made_stores import Made

from relope.errors import InvalidInputError
from relope.store import ActivationStore


def expected(made: Made, rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.concatenate([made.captures["abcdefg"[row]].hidden[2] for row in rows.tolist()])


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
    with pytest.raises(InvalidInputError, match="batches need a limit"):
        store.batches(2)


def test_more_arrays_than_stay_open(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relope.store.reader._MAPPED_ARRAYS", 2)
    store = ActivationStore.open(made.path)
    for _ in range(2):
        for batch in store.batches(2, size=1):
            np.testing.assert_array_equal(batch.values, expected(made, batch.rows))
    assert Path("/proc/self/maps").read_text().count(str(made.path)) <= 2
