"""Some layers or samples of a shared store: what comes down is a store that opens and verifies."""

import numpy as np
import pytest
from made_stores import PARTS, as_float, make_manifest, make_row

from relope.errors import NotFoundError, StoreError
from relope.store import ActivationStore, verify
from relope.store.convert import convert
from relope.store.share.pull import pull
from relope.store.share.push import push


@pytest.fixture
def uri(made, team):
    push(made.path, f"{team}/x.zarr")
    return f"{team}/x.zarr"


def truth(made, layer, ids):
    return np.stack([as_float(made.captures[name].hidden[layer][-1]) for name in ids])


def every_token(store, layer):
    return {
        store.samples["id"][int(row)]: batch.values[start:stop].copy()
        for batch in store.batches(layer, size=1)
        for row, start, stop in zip(batch.rows, batch.offsets[:-1], batch.offsets[1:], strict=True)
    }


def test_one_layer(made, uri, tmp_path):
    done = pull(uri, tmp_path / "y.zarr", layers=[3])
    store = ActivationStore.open(tmp_path / "y.zarr")
    assert store.layers == (3,) and store.manifest.token_layers == (3,)
    assert store.manifest.identity == {**made.manifest.identity, "layers": [3], "tokens": "all"}
    assert store.manifest.recorded["subset_of"] == {
        "recipe_id": made.manifest.recipe_id,
        "content_id": ActivationStore.open(made.path).content_id,
        "layers": [3],
        "splits": [],
    }
    np.testing.assert_array_equal(store.last(3), truth(made, 3, store.samples["id"]))
    tokens = every_token(store, 3)
    assert all((tokens[name] == made.captures[name].hidden[3]).all() for name in made.ids)
    np.testing.assert_array_equal(store.answer(), ActivationStore.open(made.path).answer())
    assert store.samples["question"].to_list() == [make_row(name)["question"] for name in made.ids]
    assert verify(tmp_path / "y.zarr", deep=True) == []
    with pytest.raises(NotFoundError, match="layer 2 is not in"):
        store.last(2)
    whole = sum(path.stat().st_size for path in (made.path / "parts").rglob("*") if path.is_file())
    assert done.n_bytes < 0.7 * whole
    again = pull(uri, tmp_path / "y.zarr", layers=[3])
    assert again.parts == [] and again.kept == done.parts and again.n_bytes == 0


def test_one_split_keeps_the_recipe_and_the_parts_that_are_whole(made, uri, tmp_path):
    done = pull(uri, tmp_path / "y.zarr", splits=["train"])
    store = ActivationStore.open(tmp_path / "y.zarr")
    assert store.samples["id"].to_list() == list("cdefg")
    assert store.recipe_id == made.manifest.recipe_id and store.manifest.recorded["subset_of"]["splits"] == ["train"]
    assert done.parts[1:] == made.parts[1:] and done.parts[0] not in made.parts
    np.testing.assert_array_equal(store.last(2), truth(made, 2, "cdefg"))
    assert verify(tmp_path / "y.zarr", deep=True) == []


def test_the_whole_after_a_split_completes_it(made, uri, tmp_path):
    pull(uri, tmp_path / "y.zarr", splits=["test"])
    pull(uri, tmp_path / "y.zarr")
    store = ActivationStore.open(tmp_path / "y.zarr")
    assert store.content_id == ActivationStore.open(made.path).content_id
    assert sorted(store.excluded) == ["a", "b"]


def test_a_subset_can_be_shared_and_pulled_again(made, uri, team, tmp_path):
    pull(uri, tmp_path / "y.zarr", layers=[3], splits=["test"])
    push(tmp_path / "y.zarr", f"{team}/small.zarr")
    pull(f"{team}/small.zarr", tmp_path / "z.zarr")
    store = ActivationStore.open(tmp_path / "z.zarr")
    assert store.samples["id"].to_list() == ["a", "b"] and store.manifest.recorded["subset_of"]["splits"] == ["test"]
    assert verify(tmp_path / "z.zarr", deep=True) == []


def test_the_last_tokens_of_a_lean_store(build, team, tmp_path):
    lean = build("lean.zarr", manifest=make_manifest(tokens="lean", token_layers=(2,)), parts=PARTS[:1])
    push(lean.path, f"{team}/lean.zarr")
    pull(f"{team}/lean.zarr", tmp_path / "y.zarr", layers=[3])
    store = ActivationStore.open(tmp_path / "y.zarr")
    np.testing.assert_array_equal(store.last(3), truth(lean, 3, "abc"))
    assert verify(tmp_path / "y.zarr", deep=True) == []
    with pytest.raises(NotFoundError, match="only last tokens"):
        store.batches(3, size=1)


def test_wrong_layers_splits_and_targets(made, uri, tmp_path):
    with pytest.raises(NotFoundError, match=r"layer 5 is not in .*x\.zarr \(has 2, 3\)"):
        pull(uri, tmp_path / "y.zarr", layers=[5])
    with pytest.raises(NotFoundError, match=r"unknown split of .*x\.zarr 'tst' .*did you mean 'test'"):
        pull(uri, tmp_path / "y.zarr", splits=["tst"])
    assert not (tmp_path / "y.zarr").exists()
    with pytest.raises(StoreError, match="layers was"):
        pull(uri, made.path, layers=[3])


def test_pulling_layers_is_converting_to_these_layers(made, uri, tmp_path):
    pull(uri, tmp_path / "y.zarr", layers=[3])
    convert(made.path, tmp_path / "z.zarr", layers=[3])
    one, other = ActivationStore.open(tmp_path / "y.zarr"), ActivationStore.open(tmp_path / "z.zarr")
    assert (one.recipe_id, one.content_id, one.parts) == (other.recipe_id, other.content_id, other.parts)
