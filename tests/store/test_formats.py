"""Stores as each format version wrote them; none may ever become unreadable.

The values of ``format_1.zarr`` and ``format_1_zstd.zarr``: sample ``i`` of 3 has ``i + 2`` tokens, and the state of
layer ``l``, token ``t``, column ``c`` is the bfloat16 of ``100·i + 10·l + t + c / 4``; ``answer`` is its first token's.
"""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from relope.store import ActivationStore, verify

DATA = Path(__file__).parent / "data"


def state(sample: int, layer: int, token: int) -> np.ndarray:  # type: ignore[type-arg]
    values = np.float32([100 * sample + 10 * layer + token + column / 4 for column in range(4)])
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize("name", ["format_1.zarr", "format_1_zstd.zarr"])
def test_format_1(name: str) -> None:
    assert verify(DATA / name, deep=True) == []
    with ActivationStore.open(DATA / name) as store:
        assert store.manifest.format_version == 1 and store.manifest.identity == {"fixture": 1}
        assert store.samples["id"].to_list() == ["s0", "s1", "s2"]
        assert store.content_id == "001662a0762d139154c2332092efb7b5302f07f7dbd35ac5cea96d6192f05e38"
        np.testing.assert_array_equal(store.last(2), [state(i, 2, i + 1) for i in range(3)])
        np.testing.assert_array_equal(store.answer(), [state(i, 2, 0) for i in range(3)])
        (batch,) = store.batches(1, size=3)
        expected = [state(i, 1, t) for i in range(3) for t in range(i + 2)]
        np.testing.assert_array_equal(batch.values.view(ml_dtypes.bfloat16).astype(np.float32), expected)
        assert store.token_batch()[0].tolist() == [[t, int(t == 0)] for i in range(3) for t in range(i + 2)]
