"""E11: what a killed process leaves is swept by the next run, or by gc, once its lock is free; never before."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_stores import furnish, make_store

from relope.partial import alone, beside, leftovers, partial_file, partial_folder, sweep
from relope.provenance import write_bytes
from relope.store import create_or_open, read_manifest, verify
from relope.store.share.gc import gc
from relope.store.share.pull import merge, pull
from relope.store.share.push import push

spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return furnish(make_store(tmp_path / "x.zarr")).path


def _begin(kind: str, path: Path, begun: Any) -> None:
    with partial_file(path) if kind == "file" else partial_folder(path):
        begun.set()
        os.kill(os.getpid(), 19)  # stops; the test kills it


@pytest.fixture
def writer() -> Iterator[Callable[[str, Path], Any]]:
    """Begin to write something in another process, which stays in the middle of it."""
    running = []

    def begin(kind: str, path: Path) -> Any:
        begun = spawn.Event()
        process = spawn.Process(target=_begin, args=(kind, path, begun))
        process.start()
        running.append(process)
        assert begun.wait(60)
        return process

    yield begin
    for process in running:
        process.kill()
        process.join()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_e11_a_partial_is_swept_when_its_writer_is_dead(tmp_path: Path, writer: Any, kind: str) -> None:
    process = writer(kind, tmp_path / "a.json")
    assert len(leftovers(tmp_path / "a.json")) == 1 and sweep(tmp_path / "a.json") == 0
    write_bytes(tmp_path / "a.json", b"1")
    assert len(leftovers(tmp_path / "a.json")) == 1, "another writer does not take it"
    process.kill()
    process.join()
    write_bytes(tmp_path / "b.json", b"2")
    assert len(leftovers(tmp_path / "a.json")) == 1, "nor one of another file"
    write_bytes(tmp_path / "a.json", b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_e11_only_files_open_for_writing_are_locked(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NFS a folder's lock holds on its own machine alone, and a file that is open for reading cannot be locked."""
    locked, flock = [], fcntl.flock

    def strict(descriptor: int, how: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE:
            raise OSError(errno.EBADF, "not a file that is open for writing")
        locked.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", strict)
    left = leave(beside(store), beside(store / "block_3"), beside(store / "plan.json"))
    create_or_open(store, read_manifest(store)).sweep()
    with alone(store), partial_folder(store / "block_3"):
        assert len(locked) >= 3
    assert not any(path.exists() for path in left) and not list(store.parent.rglob("*.partial"))


def _enter(folder: Path, log: Path) -> None:
    for _ in range(50):
        with alone(folder), log.open("a") as file:
            file.write("(")
            file.flush()
            time.sleep(0.001)
            file.write(")")


def test_e11_one_process_at_a_time_is_alone(tmp_path: Path) -> None:
    running = [spawn.Process(target=_enter, args=(tmp_path, tmp_path / "log")) for _ in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert (tmp_path / "log").read_text() == "()" * 150 and [path.name for path in tmp_path.iterdir()] == ["log"]


def leave(*paths: Path) -> list[Path]:
    """Make what a killed process would have left."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if "block" in path.name or ".zarr" in path.name:
            path.mkdir()
            (path / "half").write_bytes(b"x")
        else:
            path.write_bytes(b"half")
    return list(paths)


@pytest.mark.parametrize("way", ["gc", "write", "pull"])
def test_e11_gc_and_the_next_run_sweep_a_store(store: Path, tmp_path: Path, way: str) -> None:
    names = ("plan.json", "grades/exact@1.parquet", "block_3", "catalog/2.json")
    part = store / "parts" / f".tmp-{'0' * 32}-7" / "samples.parquet"
    left = leave(beside(store), *(beside(store / name) for name in names), store / ".tmp-staged", part)
    if way == "gc":
        found = {item.name for item in gc(store)}
        assert len(found) == len(left) and all(path.exists() for path in left)
        gc(store, delete=True)
        assert gc(store) == []
    elif way == "write":
        create_or_open(store, read_manifest(store)).sweep()
        (store / ".tmp-staged").unlink()  # of a push to this folder: the next push takes it, see below
    else:
        shutil.copytree(store, tmp_path / "team.zarr")
        pull((tmp_path / "team.zarr").as_uri(), store)
        (store / ".tmp-staged").unlink()
    assert not any(path.exists() for path in left) and not list(tmp_path.glob(".*.partial"))
    assert verify(store) == []


def test_e11_the_next_push_pull_and_merge_sweep_their_place(store: Path, tmp_path: Path) -> None:
    team = tmp_path / "team.zarr"
    left = leave(team / ".tmp-0123", beside(tmp_path / "pulled.zarr"), beside(tmp_path / "merged.zarr"))
    push(store, team.as_uri())
    pull(team.as_uri(), tmp_path / "pulled.zarr")
    shutil.copytree(store, tmp_path / "other.zarr")
    merge([store, tmp_path / "other.zarr"], tmp_path / "merged.zarr")
    assert not any(path.exists() for path in left)
    assert not list(tmp_path.rglob(".tmp-*")) and not list(tmp_path.rglob("*.partial"))
