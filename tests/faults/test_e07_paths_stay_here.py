"""E7: what is shared holds names, not paths of the user's machine; those are kept beside the local store."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from made_stores import furnish, make_manifest, make_store

from relope import steps
from relope.spec import build
from relope.steps.reopen import recorded_dataset
from relope.store import convert, open_store, read_manifest, verify
from relope.store.format.here import is_path, names_only
from relope.store.share.pull import merge, pull
from relope.store.share.push import push


def text_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A store of a user's own questions, which lie below a folder with a telling name."""
    rows = [{"id": f"q{n}", "split": "test", "question": f"How much is {n}+1?", "answer": str(n + 1)} for n in range(4)]
    data = tmp_path / "home-of-ada" / "mine.jsonl"
    data.parent.mkdir()
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"model": "tiny-vl", "dataset": str(data), "split": "test", "out": str(tmp_path / "x.zarr"), "device": "cpu"}
    steps.run(build("extract", spec))
    return tmp_path / "x.zarr"


def test_e7_a_pushed_store_holds_names(own: Path, tmp_path: Path) -> None:
    assert recorded_dataset(open_store(own)).name == "mine" and verify(own) == []
    assert b"home-of-ada" not in (own / "zarr.json").read_bytes() and b"home-of-ada" in (own / "here.json").read_bytes()
    push(own, (tmp_path / "team.zarr").as_uri())
    assert b"home-of-ada" not in text_of(tmp_path / "team.zarr") and not (tmp_path / "team.zarr/here.json").exists()
    pull((tmp_path / "team.zarr").as_uri(), tmp_path / "pulled.zarr")
    assert b"home-of-ada" not in text_of(tmp_path / "pulled.zarr")
    assert read_manifest(tmp_path / "pulled.zarr").recorded["dataset_source"] == "mine.jsonl"
    with pytest.raises(LookupError, match="mine"):
        recorded_dataset(open_store(tmp_path / "pulled.zarr"))


def test_e7_copies_on_this_machine_find_their_data(own: Path, tmp_path: Path) -> None:
    convert(own, tmp_path / "new.zarr", codec="zstd")
    shutil.copytree(own, tmp_path / "copy.zarr")
    merge([own, tmp_path / "copy.zarr"], tmp_path / "merged.zarr")
    for name in ("new.zarr", "copy.zarr", "merged.zarr"):
        assert recorded_dataset(open_store(tmp_path / name)).name == "mine", name
        assert verify(tmp_path / name) == [], name


def test_e7_an_older_store_is_pushed_without_its_paths(tmp_path: Path) -> None:
    paths = {"model": "tiny", "dataset_source": "/home/lovelace/mine.jsonl", "source": "C:\\lovelace\\ckpt"}
    manifest = dataclasses.replace(make_manifest(recorded=paths), format_version=1)
    made = make_store(tmp_path / "x.zarr", manifest)
    assert b"/home/lovelace" in (made.path / "zarr.json").read_bytes(), "as an older relope wrote it"
    push(furnish(made).path, (tmp_path / "team.zarr").as_uri())
    assert b"lovelace" not in text_of(tmp_path / "team.zarr")


def test_e7_what_is_a_path() -> None:
    recorded = {"a": "/x/y/ckpt", "b": "../z.jsonl", "c": "C:\\d\\e.csv", "d": "owner/model", "e": "s3://b/k", "f": 3}
    names = {"a": "ckpt", "b": "z.jsonl", "c": "e.csv", "d": "owner/model", "e": "s3://b/k", "f": 3}
    assert names_only(recorded) == names and not any(is_path(value) for value in names.values())
