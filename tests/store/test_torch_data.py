import itertools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from made_stores import Made, as_float, make_manifest
from torch.utils.data import DataLoader

from relope.errors import InvalidInputError, NotFoundError
from relope.store import ActivationStore, StoreUnion, open_store
from relope.store.torch_data import as_torch


def check(made: Made, batch: dict[str, torch.Tensor]) -> list[int]:
    """Compare a batch with what went in, and return its rows."""
    bounds = batch["offsets"].tolist()
    assert batch["values"].dtype == torch.bfloat16 and len(batch["values"]) == bounds[-1]
    rows: list[int] = batch["rows"].tolist()
    for (start, stop), row in zip(itertools.pairwise(bounds), rows, strict=True):
        expected = as_float(made.captures["abcdefg"[row]].hidden[2])
        np.testing.assert_array_equal(batch["values"][start:stop].float().numpy(), expected)
    return rows


def test_a_tensor_shares_the_memory_of_the_values() -> None:
    values = np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    tensor = as_torch(values, "bfloat16")
    assert tensor.dtype == torch.bfloat16 and tensor.tolist() == [0, 1, 2, 3, 4, 5]
    values[0] = values[5]
    assert tensor[0] == 5
    floats = np.float32([1.5])
    assert as_torch(floats, "float32").data_ptr() == floats.ctypes.data


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_workers_share_out_the_batches(kept: Made, workers: int, context: str | None) -> None:
    data = open_store(kept.path).to_torch(2, size=2)
    loader = DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context=context)
    kept_batches = list(loader)  # held together: none may lie in the memory of another
    seen = [check(kept, batch) for batch in kept_batches]
    assert sorted(seen) == [[0, 1], [2, 3], [4, 5], [6]] and len(data) == 4


def test_each_epoch_has_its_own_order_and_every_worker_follows(kept: Made) -> None:
    data = open_store(kept.path).to_torch(2, size=3, seed=5)
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork", persistent_workers=True)
    for epoch in (0, 1, 7):
        data.set_epoch(epoch)
        order = np.random.default_rng([5, epoch]).permutation(7).tolist()
        expected = [order[:3], order[3:6], order[6:]]
        assert sorted(check(kept, batch) for batch in loader) == sorted(expected)


def test_shards_are_disjoint_and_whole(kept: Made) -> None:
    shards = [open_store(kept.path).to_torch(2, [6, 5, 4, 3], max_tokens=300, shard=(i, 2)) for i in range(2)]
    assert [[check(kept, batch) for batch in shard] for shard in shards] == [[[6], [4, 3]], [[5]]]
    with pytest.raises(InvalidInputError, match=r"shard \(2, 2\)"):
        open_store(kept.path).to_torch(2, size=1, shard=(2, 2))


def test_several_stores(kept: Made, build: Callable[..., Made]) -> None:
    other = build(parts=["hij"], manifest=make_manifest(), lengths={"h": 2, "i": 4, "j": 5})
    data = StoreUnion([open_store(kept.path), open_store(other.path)]).to_torch(2, [7, 0, 9], size=3)
    (batch,) = data
    assert batch["offsets"].tolist() == [0, 2, 5, 10]
    with ActivationStore.open(other.path) as store:
        np.testing.assert_array_equal(batch["values"][:2].view(torch.uint16).numpy(), store.read(2, [0]).values)


@pytest.mark.parametrize(
    ("options", "error"), [({"layer": 9, "size": 1}, NotFoundError), ({"layer": 2}, InvalidInputError)]
)
def test_mistakes_show_before_training(kept: Made, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        open_store(kept.path).to_torch(**options)
