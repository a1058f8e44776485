"""E5: no link is followed inside a store, by anything: nothing outside is read, written or removed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_stores import furnish, make_store, tree_bytes

from relope import steps
from relope.errors import RelopeError, StoreError
from relope.spec import build
from relope.store import (
    convert,
    create_or_open,
    has_block,
    open_store,
    read_manifest,
    verify,
    write_block,
    write_object,
)
from relope.store.grade_files import Grades, read_grades_file, write_grades_file
from relope.store.share.gc import gc
from relope.store.share.pull import merge, pull
from relope.store.share.push import push
from relope.store.share.remote_reader import RemoteStore

NAMES = ("grades", "block_3", "plan.json", "skipped.json", "here.json", "catalog", "parts", "zarr.json")
DEEPER = ("grades/exact@1.parquet", "block_3/block.safetensors", "block_3/COMMIT.json", "catalog/1.json")
VERBS: dict[str, Callable[[Path, Path], object]] = {
    "open": lambda store, out: open_store(store).samples,
    "write": lambda store, out: create_or_open(store, read_manifest(store)).sweep(),
    "convert": lambda store, out: convert(store, out),
    "push": lambda store, out: push(store, out.as_uri()),
    "gc": lambda store, out: gc(store, delete=True),
    "info": lambda store, out: steps.run(build("store info", {"store": str(store)})),
    "grade": lambda store, out: steps.run(build("grade", {"store": str(store), "grader": "exact"})),
    "fit": lambda store, out: steps.run(build("fit", {"method": "probe", "store": str(store), "out": str(out)})),
    "predict": lambda store, out: steps.run(build("predict", {"router": "logprob", "store": str(store)})),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return furnish(make_store(tmp_path / "x.zarr")).path


def linked(store: Path, name: str, outside: Path) -> dict[str, bytes]:
    """Move something of a store out of it, with a link in its place; return what lies outside."""
    outside.mkdir()
    shutil.move(store / name, outside / "target")
    (store / name).symlink_to(outside / "target")
    return tree_bytes(outside)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", NAMES)
def test_e5_a_linked_part_of_a_store_is_refused(store: Path, tmp_path: Path, name: str, verb: str) -> None:
    before = linked(store, name, tmp_path / "outside")
    with pytest.raises(RelopeError, match="symbolic link") as caught:
        VERBS[verb](store, tmp_path / "out.zarr")
    assert len(caught.value.lines.splitlines()) <= 2
    assert tree_bytes(tmp_path / "outside") == before and not (tmp_path / "out.zarr").exists()
    assert any(name in f"{problem.file} {problem.what}" for problem in verify(store))


@pytest.mark.parametrize("name", DEEPER)
def test_e5_links_that_lie_deeper(store: Path, tmp_path: Path, name: str) -> None:
    before = linked(store, name, tmp_path / "outside")
    with pytest.raises(StoreError, match="symbolic link"):
        convert(store, tmp_path / "new.zarr")
    with pytest.raises(StoreError, match="symbolic link"):
        push(store, (tmp_path / "team.zarr").as_uri())
    secret = (tmp_path / "outside" / "target").read_bytes()
    shared = [*(tmp_path / "new.zarr").rglob("*"), *(tmp_path / "team.zarr").rglob("*")]
    assert not any(path.read_bytes() == secret for path in shared if path.is_file() and path.name != "1.json")
    assert tree_bytes(tmp_path / "outside") == before and name in {problem.file for problem in verify(store)}


@pytest.mark.parametrize("name", ("grades", "block_3"))
def test_e5_nothing_is_written_through_a_link(store: Path, tmp_path: Path, name: str) -> None:
    grades = read_grades_file(store, store / "grades" / "exact@1.parquet")
    before = linked(store, name, tmp_path / "outside")
    with pytest.raises(StoreError, match="symbolic link"):
        if name == "grades":
            write_grades_file(store, store / "grades" / "new@1.parquet", Grades("new@1", grades.table))
        else:
            write_block(store, 3, {"replay.json": b"{}"})
    (store / "loose.json").symlink_to(tmp_path / "outside" / "new")
    with pytest.raises(StoreError, match="symbolic link"):
        write_object(store, store / "loose.json", {})
    assert tree_bytes(tmp_path / "outside") == before


@pytest.mark.parametrize("name", ("grades", "parts", "catalog", "block_3"))
def test_e5_a_linked_part_of_a_shared_store(store: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(store, tmp_path / "team.zarr")
    before = linked(tmp_path / "team.zarr", name, tmp_path / "outside")
    uri = (tmp_path / "team.zarr").as_uri()
    readers: list[Callable[[], object]] = [
        lambda: pull(uri, tmp_path / "pulled.zarr"),
        lambda: push(store, uri),
        lambda: has_block(RemoteStore.open_uri(uri).block_folder(3).parent, 3),
        lambda: gc(uri, delete=True),
    ]
    if name != "block_3":  # a merge has it from the first store already, and asks for no other
        readers.append(lambda: merge([store, uri], tmp_path / "merged.zarr"))
    for read in readers:
        with pytest.raises(RelopeError, match="symbolic link"):
            read()
    assert tree_bytes(tmp_path / "outside") == before


@pytest.mark.parametrize("name", [*NAMES, *DEEPER])
def test_e5_links_in_a_ring(store: Path, tmp_path: Path, name: str) -> None:
    path = store / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(RelopeError) as caught:
        open_store(store)
        convert(store, tmp_path / "new.zarr")
    assert len(caught.value.lines.splitlines()) <= 2
    assert verify(store)


def test_e5_the_lock_and_the_staging_of_others(store: Path, tmp_path: Path) -> None:
    push(store, (tmp_path / "team.zarr").as_uri())
    (tmp_path / "team.zarr" / ".swap.lock").unlink(missing_ok=True)
    (tmp_path / "team.zarr" / ".swap.lock").symlink_to(tmp_path / "made-by-a-link")
    grades = read_grades_file(store, store / "grades" / "exact@1.parquet")
    write_grades_file(store, store / "grades" / "exact@1.parquet", Grades(grades.name, grades.table, 7))
    with pytest.raises(RelopeError):
        push(store, (tmp_path / "team.zarr").as_uri())
    part = next((store / "parts").glob("[0-9a-f]*")).name
    out = create_or_open(tmp_path / "out.zarr", read_manifest(store)).path
    (tmp_path / "elsewhere").mkdir()
    (out / "parts" / f".tmp-{part}-pull").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RelopeError, match="symbolic link"):
        pull(store, out)
    assert not (tmp_path / "made-by-a-link").exists() and not os.listdir(tmp_path / "elsewhere")
    assert json.loads((store / "plan.json").read_text())["units"]
