"""kill -9 at any moment: what is sealed stays, and a resumed run ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from relope.store import ActivationStore, StoreManifest, create_or_open, verify
from relope.types import Capture

ROOT = Path(__file__).parents[2]
MOMENTS = {
    "the skeleton has no name": "rename 1",
    "a folder has no lock": "mkdir 8",
    "a shard has no index": "fsync 5",
    "a part has no COMMIT.json": "replace 10",
    "a part has no name": "rename 2",
    "a sealed part has its lock": "unlink 1",
    "another part was sealed": "mkdir 60",
    "every part is sealed, no catalog": "link 1",
    "the catalog has two names": "unlink 4",
}
"""Moment → the call before which the process dies: a function of ``os`` and which call of it."""


def work(path: Path, n_parts: int) -> None:
    """What a resumable run does: sweep, subtract what is there, write, publish."""
    writer = create_or_open(path, StoreManifest({"run": 1}, (1,), 8, "bfloat16", ("kind",)))
    writer.sweep()
    plan = [[f"{part}-{sample}" for sample in range(3)] for part in range(n_parts)]
    committed = writer.committed()
    for ids in plan:
        if committed.issuperset(ids):
            continue
        with writer.part(ids) as part:
            for name in ids:
                rng = np.random.default_rng(list(name.encode()))
                hidden = rng.integers(0, 1 << 16, (int(rng.integers(1, 600)), 8), dtype=np.uint16)
                tokens = np.zeros((len(hidden), 1), np.int32)
                part.append([{"id": name}], [Capture({1: hidden}, hidden[0], tokens)])
    writer.publish([writer.part_id(ids) for ids in plan])


def die_at(name: str, last: int) -> None:
    """Kill this process before the last-th call of a function of ``os``; never for 0."""
    real, calls = getattr(os, name), 0

    def counted(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(os, name, counted)


def start(path: Path, step: str, n_parts: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, str(path), *step.split(), str(n_parts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def parts_of(path: Path) -> dict[str, bytes]:
    files = (file for file in (path / "parts").rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def check_readable(path: Path) -> None:
    """Whatever is left is a sound store, if it is one at all yet."""
    if path.exists():
        assert verify(path, deep=True) == []
        store = ActivationStore.open(path)
        assert len(store) == 3 * len(store.parts) == len(store.last(1))


def check_same(path: Path, whole: Path) -> None:
    """A resumed run ends where an uninterrupted one does, to the byte."""
    assert parts_of(path) == parts_of(whole)
    resumed, expected = ActivationStore.open(path), ActivationStore.open(whole)
    assert (resumed.content_id, resumed.parts) == (expected.content_id, expected.parts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "x.zarr"
    work(path, 3)
    return path


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_when(tmp_path: Path, whole: Path, moment: str) -> None:
    path = tmp_path / "x.zarr"
    process = start(path, MOMENTS[moment], 3)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    check_readable(path)
    work(path, 3)
    check_same(path, whole)
    assert verify(path, deep=True) == []


def test_killed_at_random_moments(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    path, n_parts = tmp_path / "x.zarr", 25
    for _ in range(20):
        process = start(path, "fsync 0", n_parts)
        assert process.stdout is not None and process.stdout.readline() == "start\n"
        time.sleep(float(rng.uniform(0, 0.25)))
        process.kill()
        process.communicate()
        check_readable(path)
    work(path, n_parts)
    work(tmp_path / "whole.zarr", n_parts)
    assert parts_of(path) == parts_of(tmp_path / "whole.zarr")
    assert ActivationStore.open(path).content_id == ActivationStore.open(tmp_path / "whole.zarr").content_id


if __name__ == "__main__":
    os.fsync = lambda descriptor: None  # what a dead process wrote is in the page cache all the same
    die_at(sys.argv[2], int(sys.argv[3]))
    sys.stdout.write("start\n")
    sys.stdout.flush()
    work(Path(sys.argv[1]), int(sys.argv[4]))
