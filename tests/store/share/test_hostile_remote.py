"""What comes from a remote is not trusted: names, sizes and bytes are checked before and after."""

import json
import os
import shutil
from pathlib import Path

import pytest
from made_stores import tree_bytes

from relope.errors import NotFoundError, RelopeError, StoreError
from relope.store import ActivationStore, open_store
from relope.store.share.listing import listing
from relope.store.share.pull import pull
from relope.store.share.push import push


@pytest.fixture
def shared(small, tmp_path):
    """A store on a mount that somebody is about to spoil: the URI, and the folder of its one part."""
    (tmp_path / "mount").mkdir()
    folder = tmp_path / "mount" / "x.zarr"
    push(small.path, folder.as_uri())
    return folder.as_uri(), folder / "parts" / small.parts[0]


def commit_with(part, change):
    commit = json.loads((part / "COMMIT.json").read_text())
    change(commit)
    (part / "COMMIT.json").write_text(json.dumps(commit))


def refused(uri, tmp_path, match):
    """Pull, expect an error of one or two lines, and nothing beyond an empty store on disk."""
    before = set(tmp_path.rglob("*"))
    with pytest.raises(RelopeError, match=match) as said:
        pull(uri, tmp_path / "out" / "y.zarr")
    assert len(said.value.lines.splitlines()) <= 2 and "relope-" not in said.value.lines
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
    if (tmp_path / "out" / "y.zarr").exists():
        assert ActivationStore.open(tmp_path / "out" / "y.zarr").parts == ()


FILES = ["hidden/2/c/0/0", "last/3/c/0/0", "answer/zarr.json", "tokens/c/0/0", "samples.parquet", "zarr.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found_before_the_part_counts(shared, tmp_path, name):
    uri, part = shared
    content = bytearray((part / name).read_bytes())
    content[len(content) // 2] ^= 1
    (part / name).write_bytes(content)
    refused(uri, tmp_path, "is not what was pushed: its sha256 differs")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["longer", "shorter", "gone"])
def test_sizes_are_compared_before_anything_is_read(shared, tmp_path, name, change):
    uri, part = shared
    content = (part / name).read_bytes()
    if change == "gone":
        (part / name).unlink()
    else:
        (part / name).write_bytes(content + b"x" if change == "longer" else content[:-1])
    refused(uri, tmp_path, "nothing of it was read|missing|more than the|differs")


@pytest.mark.parametrize(
    "name", ["../../../evil", "/tmp/evil", "hidden/../../evil", "hidden//x", ".lock", "evil", "hidden/.x", "a\\b", ""]
)
def test_names_that_lead_elsewhere_are_refused(shared, tmp_path, name):
    uri, part = shared
    commit_with(part, lambda commit: commit["files"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    refused(uri, tmp_path, "which is none of a part's")


@pytest.mark.parametrize(
    "record",
    [None, {}, {"bytes": -1, "sha256": "0" * 64}, {"bytes": True, "sha256": "0" * 64}, {"bytes": 1, "sha256": 0}],
)
def test_records_of_another_kind_are_refused(shared, tmp_path, record):
    uri, part = shared
    commit_with(part, lambda commit: commit["files"].update({"tokens/c/0/0": record}))
    refused(uri, tmp_path, "is damaged: bytes and sha256")


@pytest.mark.parametrize("part_id", ["../../evil", "x", "/abs", 5, "A" * 32])
def test_part_ids_of_another_form_are_refused(shared, tmp_path, part_id):
    uri, part = shared
    catalog = part.parents[1] / "catalog" / "1.json"
    catalog.write_text(json.dumps({"parts": [part_id], "content_id": "0" * 64}))
    refused(uri, tmp_path, "which is no part id")


def test_a_part_that_is_not_there_is_refused(shared, tmp_path):
    uri, part = shared
    (part / "COMMIT.json").unlink()
    refused(uri, tmp_path, "is not at file://")


def test_a_catalog_that_disagrees_with_the_samples_is_refused(shared, tmp_path):
    uri, part = shared
    catalog = part.parents[1] / "catalog" / "1.json"
    catalog.write_text(json.dumps({"parts": [part.name], "content_id": "0" * 64}))
    refused(uri, tmp_path, "does not agree with its parts' samples")


def test_a_part_under_the_name_of_another_is_refused(shared, tmp_path):
    uri, part = shared
    other = part.with_name("f" * 32)
    part.rename(other)
    commit_with(other, lambda commit: commit.update(part=other.name))
    catalog = part.parents[1] / "catalog" / "1.json"
    catalog.write_text(catalog.read_text().replace(part.name, other.name))
    refused(uri, tmp_path, "do not hash to its id")


def test_symbolic_links_are_not_followed(shared, tmp_path):
    uri, part = shared
    target = tmp_path / "secret"
    (part / "samples.parquet").rename(target)
    (part / "samples.parquet").symlink_to(target)
    refused(uri, tmp_path, "symbolic link|missing")
    shutil.move(part, tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")
    refused(uri, tmp_path, "is not at file://")


def test_a_link_left_in_the_temporary_folder_is_not_written_through(shared, small, tmp_path):
    uri, part = shared
    out = tmp_path / "y.zarr"
    pull(uri, out)
    shutil.rmtree(out / "parts" / part.name)
    staged = out / "parts" / f".tmp-{part.name}-pull" / "parts" / part.name
    (staged / "last" / "3" / "c").mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"mine")
    os.symlink(tmp_path / "precious", staged / "samples.parquet")
    with pytest.raises(RelopeError):
        pull(uri, out)
    assert (tmp_path / "precious").read_bytes() == b"mine"


def test_what_an_older_pull_left_is_not_sealed_with_the_part(shared, small, tmp_path):
    uri, part = shared
    out = tmp_path / "y.zarr"
    pull(uri, out)
    shutil.rmtree(out / "parts" / part.name)
    staged = out / "parts" / f".tmp-{part.name}-pull" / "parts" / part.name
    (staged / "last" / "3" / "c" / "0").mkdir(parents=True)
    (staged / "last" / "3" / "c" / "0" / "0").write_bytes(b"too long to be right" * 1000)
    (staged / "stranger").write_bytes(b"")
    with pytest.raises(StoreError, match="sha256 differs"):
        pull(uri, out)
    pull(uri, out)
    assert tree_bytes(out) == tree_bytes(small.path)


def test_hostile_things_beside_the_parts(shared, tmp_path):
    uri, part = shared
    store = part.parents[1]
    (store / "grades").mkdir()
    (store / "grades" / "..@x.parquet").write_bytes(b"ignored")
    pull(uri, tmp_path / "fine.zarr")
    (store / "grades" / "exact@1.parquet").write_bytes(b"no parquet")
    with pytest.raises(StoreError, match=r"exact@1.parquet at file:.* is damaged"):
        pull(uri, tmp_path / "a.zarr")
    shutil.rmtree(store / "grades")
    (store / "plan.json").write_text('{"units": [{"batch_size": "many", "ids": []}]}')
    with pytest.raises(StoreError, match=r"plan.json at file:.* is damaged"):
        pull(uri, tmp_path / "b.zarr")
    (store / "plan.json").unlink()
    (store / "block_3").mkdir()
    for name in ("config.json", "block.safetensors", "replay.json"):
        (store / "block_3" / name).write_bytes(b"{}")
    files = {name: {"bytes": 2, "sha256": "0" * 64} for name in ("config.json", "block.safetensors", "replay.json")}
    (store / "block_3" / "COMMIT.json").write_text(json.dumps({"files": files}))
    with pytest.raises(StoreError, match=r"config.json at .* is not what was pushed"):
        pull(uri, tmp_path / "c.zarr")
    assert not list((tmp_path / "c.zarr").glob("block_3/*"))


def test_a_manifest_from_the_future_is_refused(shared, tmp_path):
    uri, part = shared
    meta = part.parents[1] / "zarr.json"
    document = json.loads(meta.read_text())
    document["attributes"]["relope"]["format_version"] = 99
    meta.write_text(json.dumps(document))
    refused(uri, tmp_path, "has store format 99")
    meta.write_text("{")
    refused(uri, tmp_path, "not JSON")
    document["attributes"]["relope"]["format_version"] = 1
    document["attributes"]["relope"]["hidden_size"] = "six"
    meta.write_text(json.dumps(document))
    assert "is damaged" in listing(uri.removesuffix("/x.zarr"))["stores"][0]["error"]
    meta.unlink()
    with pytest.raises(NotFoundError, match="there is no store"):
        listing(uri)


def test_a_remote_read_in_place_is_checked_too(shared, s3, small, monkeypatch):
    import obstore

    uri = f"{s3}/x.zarr"
    push(small.path, uri)
    store = open_store(uri)
    bucket = store.snapshot.remote._store
    name = f"x.zarr/parts/{small.parts[0]}/last/3/c/0/0"
    content = bytearray(obstore.get(bucket, name).bytes())
    content[3] ^= 1
    obstore.put(bucket, name, bytes(content))
    with pytest.raises(StoreError, match=r"last/3/c/0/0 in s3://.* is damaged: the CRC"):
        store.last(3)
    obstore.put(bucket, name, bytes(content[:-1]))
    with pytest.raises(StoreError, match="another size than pushed"):
        open_store(uri).last(3)
    assert Path(store.path).exists()
