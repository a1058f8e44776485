"""C: a sweep over layers works, or says exactly what the store holds before anything is fitted."""

import pytest

from relope import steps
from relope.errors import NotFoundError
from relope.spec import SweepSpec


def sweep(store_path, tmp_path, *layers):
    grid = {"layer": layers}
    return steps.run(
        SweepSpec(method="probe", store=str(store_path), out=tmp_path / "s.parquet", grid=grid, seeds=1,
                  set={"head": "logistic"})
    )  # fmt: skip


def test_c_a_sweep_over_the_layers_of_a_store(store_path, tmp_path):
    assert sorted(sweep(store_path, tmp_path, 3, 4).runs["layer"]) == [3, 4]


def test_c_all_layers_that_are_missing_are_named_before_anything_is_fitted(store_path, tmp_path):
    with pytest.raises(NotFoundError, match=r"layers 1, 2 are not in .* \(has 3, 4\)") as caught:
        sweep(store_path, tmp_path, 1, 2, 3)
    assert "--layers 1,2,3" in caught.value.hint and not (tmp_path / "s.parquet").exists()
