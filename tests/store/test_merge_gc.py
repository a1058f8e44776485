"""Stores on one disk: several made one, and what nobody needs any more removed."""

import os
from pathlib import Path

import numpy as np
import pytest
from made_stores import make_store, write_part

from relope.errors import InvalidInputError
from relope.store import ActivationStore, verify
from relope.store.format.claims import claim
from relope.store.share.gc import gc
from relope.store.share.pull import merge


def test_merge(build, tmp_path):
    one, two = build("a.zarr", parts=["abc", "d"]), build("b.zarr", parts=["efg", "dc"])
    merge([one.path, two.path], tmp_path / "m.zarr")
    store = ActivationStore.open(tmp_path / "m.zarr")
    assert store.samples["id"].to_list() == list("abcdefg") and store.excluded == ["d", "c"]
    everything = make_store(tmp_path / "all.zarr").path
    assert store.content_id == ActivationStore.open(everything).content_id
    assert verify(tmp_path / "m.zarr", deep=True) == []
    np.testing.assert_array_equal(store.last(3), ActivationStore.open(everything).last(3))
    merge([one.path, two.path], one.path)
    assert ActivationStore.open(one.path).content_id == store.content_id
    with pytest.raises(InvalidInputError, match="two or more"):
        merge([one.path], tmp_path / "z.zarr")


def test_gc_lists_first_and_removes_only_what_nobody_needs(made, tmp_path):
    dead = made.path / "parts" / ".tmp-dead"
    dead.mkdir()
    (dead / "half").write_bytes(b"123")
    live, lock = claim(made.path, "0" * 32)
    extra = write_part(made.writer, "ag", made.captures)
    made.writer.publish()
    size = (made.path / "catalog" / "1.json").stat().st_size
    try:
        assert {item.name: item.n_bytes for item in gc(made.path)} == {"parts/.tmp-dead": 3, "catalog/1.json": size}
        assert dead.exists() and (made.path / "catalog" / "1.json").exists()
        gc(made.path, delete=True)
        assert not dead.exists() and live.exists()
    finally:
        os.close(lock)
    assert ActivationStore.open(made.path).parts == (*made.parts, extra)
    assert [item.name for item in gc(made.path, delete=True)] == [f"parts/{live.name}"]
    assert gc(made.path) == [] and verify(made.path) == []


def test_gc_of_a_store_that_somebody_writes_to(made, monkeypatch):
    """The writer renames its file between the listing of names and the look at one."""
    partial, real = made.path / "grades" / ".exact@1.parquet.7.partial", Path.glob
    partial.parent.mkdir()

    def glob(self, pattern):
        partial.write_bytes(b"123")
        names = list(real(self, pattern))
        partial.unlink()
        return iter(names)

    monkeypatch.setattr(Path, "glob", glob)
    assert gc(made.path) == []
