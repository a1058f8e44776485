"""Stores as each format version wrote them; none may ever become unreadable.

The values of ``format_1.zarr``, ``format_1_zstd.zarr`` and ``format_2.zarr``: sample ``i`` of 3 has ``i + 2``
tokens, and the state of layer ``l``, token ``t``, column ``c`` is the bfloat16 of ``100·i + 10·l + t + c / 4``;
``answer`` is its first token's.
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


@pytest.mark.parametrize(("name", "version"), [("format_1.zarr", 1), ("format_1_zstd.zarr", 1), ("format_2.zarr", 2)])
def test_formats_with_states(name: str, version: int) -> None:
    assert verify(DATA / name, deep=True) == []
    with ActivationStore.open(DATA / name) as store:
        assert store.manifest.format_version == version and store.manifest.identity == {"fixture": version}
        assert store.samples["id"].to_list() == ["s0", "s1", "s2"]
        assert store.content_id == "001662a0762d139154c2332092efb7b5302f07f7dbd35ac5cea96d6192f05e38"
        np.testing.assert_array_equal(store.last(2), [state(i, 2, i + 1) for i in range(3)])
        np.testing.assert_array_equal(store.answer(), [state(i, 2, 0) for i in range(3)])
        (batch,) = store.batches(1, size=3)
        expected = [state(i, 1, t) for i in range(3) for t in range(i + 2)]
        np.testing.assert_array_equal(batch.values.view(ml_dtypes.bfloat16).astype(np.float32), expected)
        assert store.token_batch()[0].tolist() == [[t, int(t == 0)] for i in range(3) for t in range(i + 2)]


def test_format_3_of_answers_only() -> None:
    assert verify(DATA / "format_3_answers.zarr", deep=True) == []
    with ActivationStore.open(DATA / "format_3_answers.zarr") as store:
        assert store.manifest.format_version == 3 and store.manifest.answers_only and store.layers == ()
        assert store.samples.select("id", "response", "prompt_tokens", "latency_s").rows() == [
            ("s0", "a cat", 12, 0.5),
            ("s1", "", None, None),
        ]
        assert store.samples["logprobs"].to_list() == [[-0.25, -0.5], None]
        assert store.content_id == "70b8e157f11ab25c6835a968072487285a4bdf1fc81740e4658a222ebce75425"
