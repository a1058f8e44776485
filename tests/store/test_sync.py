"""Stores that travel: the same on a shared mount as on an S3 server."""

import json

import numpy as np
import pytest
from made_stores import make_store, tree_bytes

from relope.store import ActivationStore, verify
from relope.store.listing import listing
from relope.store.pull import merge, pull
from relope.store.push import push


def test_a_store_comes_back_as_it_was(made, team, tmp_path):
    uri = f"{team}/x.zarr"
    sent = push(made.path, uri)
    assert sent.parts == made.parts and sent.kept == [] and sent.n_samples == 7 and sent.catalog == 1
    got = pull(uri, tmp_path / "y.zarr")
    assert got.parts == made.parts and got.n_samples == 7 and got.n_bytes == sent.n_bytes
    assert got.content_id == sent.content_id == ActivationStore.open(made.path).content_id
    assert tree_bytes(tmp_path / "y.zarr") == tree_bytes(made.path)
    assert verify(tmp_path / "y.zarr", deep=True) == []


def test_again_nothing_moves(made, team, tmp_path):
    uri = f"{team}/x.zarr"
    push(made.path, uri)
    pull(uri, tmp_path / "y.zarr")
    again = push(made.path, uri)
    assert (again.parts, again.n_bytes, again.catalog, again.differing) == ([], 0, 1, [])
    back = pull(uri, tmp_path / "y.zarr")
    assert (back.parts, back.kept, back.n_bytes) == ([], made.parts, 0)


def test_listing(made, team):
    push(made.path, f"{team}/x.zarr")
    found = listing(f"{team}/x.zarr")
    assert found["n_samples"] == 7 and found["layers"] == [2, 3] and found["unfinished"] == []
    assert [part["part"] for part in found["parts"]] == made.parts
    assert [part["n_samples"] for part in found["parts"]] == [3, 1, 3]
    assert [store["uri"] for store in listing(team)["stores"]] == [f"{team}/x.zarr"]
    json.dumps(found)


def test_merge(build, tmp_path):
    one, two = build("a.zarr", parts=["abc", "d"]), build("b.zarr", parts=["efg", "dc"])
    merge([one.path, two.path], tmp_path / "m.zarr")
    store = ActivationStore.open(tmp_path / "m.zarr")
    assert store.samples["id"].to_list() == list("abcdefg") and store.excluded == ["d", "c"]
    assert store.content_id == ActivationStore.open(make_store(tmp_path / "all.zarr").path).content_id
    assert verify(tmp_path / "m.zarr", deep=True) == []
    np.testing.assert_array_equal(store.last(3), ActivationStore.open(tmp_path / "all.zarr").last(3))
