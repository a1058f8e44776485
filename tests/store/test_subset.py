"""Some layers or samples of a shared store: what comes down is a store that opens and verifies."""

import numpy as np
import pytest
from made_stores import PARTS, as_float, make_manifest, make_row

from relope.errors import NotFoundError, StoreError
from relope.store import ActivationStore, open_store, verify
from relope.store.convert import convert
from relope.store.format.arrays import part_codec
from relope.store.format.manifest import array_specs
from relope.store.share import remote_reader
from relope.store.share.listing import listing
from relope.store.share.pull import pull
from relope.store.share.push import push
from relope.store.share.remote_objects import ObjectRemote


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


def test_reading_in_place_gives_the_same_numbers(made, s3):
    uri = f"{s3}/x.zarr"
    push(made.path, uri)
    here = ActivationStore.open(made.path)
    with open_store(uri) as there:
        assert there.label == uri and there.is_remote and not here.is_remote
        assert there.recipe_id == here.recipe_id and there.content_id == here.content_id
        assert there.samples.equals(here.samples) and there.bytes_fetched == 0
        np.testing.assert_array_equal(there.last(3), here.last(3))
        np.testing.assert_array_equal(there.last(3, [5, 0]), here.last(3, [5, 0]))
        np.testing.assert_array_equal(there.answer([6, 1]), here.answer([6, 1]))
        ours, theirs = every_token(here, 2), every_token(there, 2)
        assert all((ours[name] == theirs[name]).all() for name in made.ids)
        np.testing.assert_array_equal(there.token_batch()[0], here.token_batch()[0])


def test_rows_that_are_kept_are_fetched_and_read_once(made, s3, monkeypatch):
    push(made.path, f"{s3}/x.zarr")
    ranges, real = [], ObjectRemote.read_range
    monkeypatch.setattr(
        ObjectRemote, "read_range", lambda self, name, *span: (ranges.append((name, span)), real(self, name, *span))[1]
    )
    here = ActivationStore.open(made.path)
    with open_store(f"{s3}/x.zarr", keep_rows=True) as store:
        np.testing.assert_array_equal(store.last(3, [5, 0]), here.last(3, [5, 0]))
        fetched, read = list(ranges), store.bytes_read
        assert {name.split("/", 2)[2] for name, _ in fetched} == {"last/3/c/0/0"} and read == 7 * 6 * 2
        for rows in (None, [6, 1], [5, 0]):
            np.testing.assert_array_equal(store.last(3, rows), here.last(3, rows))
        assert ranges == fetched and store.bytes_read == read


def test_reading_in_place_fetches_only_the_chunks_that_are_touched(made, s3, monkeypatch):
    monkeypatch.setattr(remote_reader, "_GAP_BYTES", 0)
    push(made.path, f"{s3}/x.zarr")
    store = open_store(f"{s3}/x.zarr")
    row = 2 * 6
    store.last(3, [0])
    assert store.bytes_fetched == (3 * row + 4) + (16 + 4)  # its part's one chunk of three rows, and the index
    store.last(3, [0, 1, 2])
    assert store.bytes_fetched == (3 * row + 4) + 20
    before = store.bytes_fetched
    list(store.batches(2, [1], size=1))  # sample b: token rows 3 … 302 of 304, in both chunks
    assert store.bytes_fetched - before == 2 * (256 * row + 4) + (2 * 16 + 4)
    before = store.bytes_fetched
    list(store.batches(3, [0], size=1))  # sample a: token rows 0 … 2, in the first chunk only
    assert store.bytes_fetched - before == (256 * row + 4) + (2 * 16 + 4)


def test_a_store_of_other_codecs_is_read_in_place(made, s3, tmp_path):
    """Arrays that zarr-python wrote, one sharded and compressed, one with plain chunks."""
    import json
    import shutil

    import zarr
    from zarr.codecs import BloscCodec

    from relope.provenance import file_digest

    here = ActivationStore.open(made.path)
    expected = here.last(3)
    for part in made.parts:
        folder = made.path / "parts" / part
        for name, options in (("last/3", {"shards": (4, 6), "chunks": (2, 6)}), ("last/2", {"chunks": (2, 6)})):
            values, attributes = (lambda array: (array[:], dict(array.attrs)))(zarr.open_array(folder / name, mode="r"))
            shutil.rmtree(folder / name)
            zarr.create_array(folder / name, data=values, compressors=BloscCodec(), attributes=attributes, **options)
        commit = json.loads((folder / "COMMIT.json").read_text())
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != "COMMIT.json"]
        commit["files"] = {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            for path in files
        }
        (folder / "COMMIT.json").write_text(json.dumps(commit, indent=2, sort_keys=True) + "\n")
    push(made.path, f"{s3}/x.zarr")
    store = open_store(f"{s3}/x.zarr")
    np.testing.assert_array_equal(store.last(3), expected)
    np.testing.assert_array_equal(store.last(2), truth(made, 2, "abcdefg"))
    assert listing(f"{s3}/x.zarr")["n_samples"] == 7
    pull(f"{s3}/x.zarr", tmp_path / "y.zarr", layers=[3])
    np.testing.assert_array_equal(ActivationStore.open(tmp_path / "y.zarr").last(3), expected)


def test_a_packed_store_stays_packed(made, s3, tmp_path):
    packed = tmp_path / "packed.zarr"
    convert(made.path, packed, codec="zstd")
    push(packed, f"{s3}/x.zarr")
    assert push(made.path, f"{s3}/x.zarr").differing == []  # packed otherwise, the values are the same
    store = open_store(f"{s3}/x.zarr")
    assert store.content_id == ActivationStore.open(made.path).content_id
    np.testing.assert_array_equal(store.last(3), truth(made, 3, "abcdefg"))
    tokens = every_token(store, 2)
    assert all((tokens[name] == made.captures[name].hidden[2]).all() for name in made.ids)
    pull(f"{s3}/x.zarr", tmp_path / "y.zarr", layers=[3])
    small = ActivationStore.open(tmp_path / "y.zarr")
    assert {part_codec(small.path, part, array_specs(small.manifest)) for part in small.parts} == {"zstd"}
    assert verify(small.path, deep=True) == []


def test_pulling_layers_is_converting_to_these_layers(made, uri, tmp_path):
    pull(uri, tmp_path / "y.zarr", layers=[3])
    convert(made.path, tmp_path / "z.zarr", layers=[3])
    one, other = ActivationStore.open(tmp_path / "y.zarr"), ActivationStore.open(tmp_path / "z.zarr")
    assert (one.recipe_id, one.content_id, one.parts) == (other.recipe_id, other.content_id, other.parts)
