"""A store that is read where it is: the same numbers, only the bytes that are asked for, errors that name the URI."""

import json
import pickle
import shutil
import threading

import numpy as np
import pytest
import zarr
from made_stores import as_float
from zarr.codecs import BloscCodec

from relope.errors import NotFoundError, StoreError
from relope.provenance import file_digest
from relope.store import ActivationStore, StoreUnion, open_store, verify
from relope.store.convert import convert
from relope.store.format.arrays import part_codec
from relope.store.format.manifest import array_specs
from relope.store.grades import read_grades
from relope.store.share import remote_reader
from relope.store.share.listing import listing
from relope.store.share.pull import pull
from relope.store.share.push import push
from relope.store.share.remote_objects import ObjectRemote


@pytest.fixture
def ranges(monkeypatch):
    """Every range that is read of a bucket: (name, start, stop)."""
    read, real = [], ObjectRemote.read_range

    def read_range(self, name, start, stop):
        read.append((name, start, stop))
        return real(self, name, start, stop)

    monkeypatch.setattr(ObjectRemote, "read_range", read_range)
    return read


def truth(made, layer, ids):
    return np.stack([as_float(made.captures[name].hidden[layer][-1]) for name in ids])


def every_token(store, layer):
    return {
        store.samples["id"][int(row)]: batch.values[start:stop].copy()
        for batch in store.batches(layer, size=3)
        for row, start, stop in zip(batch.rows, batch.offsets[:-1], batch.offsets[1:], strict=True)
    }


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


def test_rows_that_are_kept_are_fetched_and_read_once(made, s3, ranges):
    push(made.path, f"{s3}/x.zarr")
    here = ActivationStore.open(made.path)
    with open_store(f"{s3}/x.zarr", keep_rows=True) as store:
        np.testing.assert_array_equal(store.last(3, [5, 0]), here.last(3, [5, 0]))
        fetched, read = list(ranges), store.bytes_read
        assert {name.split("/", 2)[2] for name, _, _ in fetched} == {"last/3/c/0/0"} and read == 7 * 6 * 2
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


def test_threads_fetch_a_chunk_once_and_never_read_it_before_it_is_there(made, s3, ranges):
    push(made.path, f"{s3}/x.zarr")
    store, wrong, start = open_store(f"{s3}/x.zarr"), [], threading.Barrier(8)
    expected = made.captures["b"].hidden[2]

    def read():
        start.wait()
        wrong.extend([1] * (not np.array_equal(store.read(2, [1]).values, expected)))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(ranges) == len(set(ranges)) == 2  # the index, then both chunks in one


def test_an_opened_store_can_be_sent_to_another_process(made, s3):
    push(made.path, f"{s3}/x.zarr")
    here, there = open_store(made.path, verify=False), open_store(f"{s3}/x.zarr", keep_rows=True)
    for store in (here, there, StoreUnion([here, there])):
        sent = pickle.loads(pickle.dumps(store))  # noqa: S301 (our own)
        assert sent is not store and sent.label == store.label and sent.is_remote == store.is_remote
        np.testing.assert_array_equal(sent.last(3), store.last(3))
        assert not store.is_remote or sent.path != store.path, "the temporary folder goes with its own store"


def test_errors_name_the_right_uri_after_others_were_opened_and_closed(build, s3, tmp_path):
    opened = {}
    for name, ids in (("a", "abc"), ("b", "d")):
        made = build(f"{name}.zarr", parts=[ids])
        push(made.path, f"{s3}/{name}.zarr")
        opened[f"{s3}/{name}.zarr"] = open_store(f"{s3}/{name}.zarr")
        spoilt = tmp_path / name
        spoilt.write_bytes(bytes(len((made.folder() / "tokens/c/0/0").read_bytes())))
        remote = opened[f"{s3}/{name}.zarr"].snapshot.remote
        remote.upload({f"parts/{made.parts[0]}/tokens/c/0/0": spoilt}, lambda n_bytes: None)
    for store in opened.values():
        store.close()
    for uri, store in opened.items():
        reads = {
            "is damaged: the CRC": store.tokens,  # what a reader of local stores says of the temporary folder
            "layer 9 is not in": lambda store=store: store.last(9),
            "has no grades yet": lambda store=store: read_grades(store, None),
        }
        for what, read in reads.items():
            with pytest.raises((NotFoundError, StoreError), match=what) as said:
                read()
            assert uri in str(said.value) and str(store.path) not in said.value.lines


def test_what_is_open_says_what_it_is(made, s3):
    push(made.path, f"{s3}/x.zarr")
    assert repr(open_store(f"{s3}/x.zarr")) == (
        f"<RemoteStore {s3}/x.zarr: unknown model on unknown data, 7 samples, layers 2, 3>"
    )
    store = open_store(made.path)
    assert repr(store) == f"<ActivationStore {made.path}: unknown model on unknown data, 7 samples, layers 2, 3>"
    assert repr(StoreUnion([store])).startswith(f"<StoreUnion {made.path}: ")
