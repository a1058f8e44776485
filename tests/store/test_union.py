from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_stores import Made, as_float, make_manifest

from relope.errors import InvalidInputError, NotFoundError
from relope.store import ActivationStore, StoreUnion

MORE = {"h": 4, "i": 9, "b": 300, "c": 8}


@pytest.fixture
def union(kept: Made, build: Callable[..., Made]) -> tuple[StoreUnion, list[Any]]:
    """Two stores; the second has sample b once more, and another sample named c."""
    other = build("y.zarr", parts=[["h", "b"], ["c", "i"]], lengths=MORE)
    captures = [*kept.captures.values(), *(other.captures[name] for name in "hci")]
    return StoreUnion([ActivationStore.open(kept.path), ActivationStore.open(other.path)]), captures


def test_rows_of_all_stores(union: tuple[StoreUnion, list[Any]]) -> None:
    both, captures = union
    assert "".join(both.samples["id"]) == "abcdefghci" and both.excluded == ["b"] and len(both) == 10
    stores, rows = both.origin()
    assert stores.tolist() == [0] * 7 + [1] * 3 and rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 2, 3]
    assert [both.stores[n].samples["id"][row] for n, row in zip(stores.tolist(), rows.tolist(), strict=True)] == list(
        "abcdefghci"
    )
    assert both.origin([9, 0])[1].tolist() == [3, 0]
    np.testing.assert_array_equal(both.last(3), np.stack([as_float(c.hidden[3][-1]) for c in captures]))
    np.testing.assert_array_equal(both.answer([8, 1]), np.stack([as_float(captures[n].answer) for n in (8, 1)]))
    np.testing.assert_array_equal(both.token_batch()[0], np.concatenate([c.tokens for c in captures]))


def test_batches_mix_stores(union: tuple[StoreUnion, list[Any]]) -> None:
    both, captures = union
    rng, seen = np.random.default_rng(3), []
    for batch in both.batches(2, size=3, rng=rng):
        expected = np.concatenate([captures[row].hidden[2] for row in batch.rows])
        np.testing.assert_array_equal(batch.values, expected)
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(10))
    with pytest.raises(NotFoundError, match=r"layer 9 is not in .*x\.zarr \+ .*y\.zarr"):
        both.batches(9, size=1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hidden_size": 7}, "hidden_size 6 and 7"),
        ({"layers": (2, 4)}, r"layers \(2, 3\) and \(2, 4\)"),
        ({"dtype": "float32"}, "dtype bfloat16 and float32"),
        ({"tokens": "lean", "token_layers": (2,)}, r"token_layers \(2, 3\) and \(2,\)"),
        ({"token_columns": ("kind", "position")}, "token_columns"),
        ({"identity": {"model_files": "other"}}, "other model files"),
    ],
)
def test_stores_that_do_not_go_together(
    kept: Made, build: Callable[..., Made], changes: dict[str, Any], why: str
) -> None:
    other = build("y.zarr", manifest=make_manifest(**changes), parts=[])
    with pytest.raises(InvalidInputError, match=f"do not go together: .*{why}"):
        StoreUnion([ActivationStore.open(kept.path), ActivationStore.open(other.path)])
    with pytest.raises(InvalidInputError, match="at least one"):
        StoreUnion([])
