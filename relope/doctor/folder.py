"""The folder that results go to: room, speed, locks and hard links, tried out on a file of its own."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from relope.doctor.finding import Finding

_GIB, _MIB = 1 << 30, 1 << 20
_LITTLE, _TOO_LITTLE = 20 * _GIB, _GIB
_SLOW_MIB_S = 50.0
_BLOCK, _BLOCKS, _LONGEST_S = 4 * _MIB, 32, 1.5
"""Bytes that are written at once, how often at most, and seconds after which no more are."""


def folder(out: Path) -> Iterator[Finding]:
    """Yield what holds of the folder that results go to, or of the nearest above it that is there."""
    there = out.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("output", "error", f"{there} cannot be written to", "give another folder with --out")
        return
    yield _room(there)
    try:
        with tempfile.TemporaryDirectory(prefix=".relope-doctor-", dir=there) as made:
            yield _speed(Path(made))
            yield _locks(Path(made))
            yield _links(Path(made))
    except OSError as error:
        yield Finding(
            "output", "error", f"{there}: {error.strerror or error}", "make room, or give another folder with --out"
        )


def _room(there: Path) -> Finding:
    free = shutil.disk_usage(there).free
    said = f"{free / _GIB:.1f} GiB free at {there}"
    if free < _TOO_LITTLE:
        return Finding("disk", "error", said, "make room, or give another folder with --out")
    if free < _LITTLE:
        return Finding("disk", "warning", said, "`relope plan` tells what an extraction will weigh")
    return Finding("disk", "ok", said)


def _speed(made: Path) -> Finding:
    block, n = os.urandom(_BLOCK), 0
    begun = time.perf_counter()
    with (made / "speed").open("wb") as file:
        while n < _BLOCKS and time.perf_counter() - begun < _LONGEST_S:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
            n += 1
    speed = n * _BLOCK / _MIB / (time.perf_counter() - begun)
    said = f"{speed:,.0f} MiB/s, {n * _BLOCK // _MIB} MiB written through to the disk in pieces of 4 MiB"
    if speed < _SLOW_MIB_S:
        return Finding("disk speed", "warning", said, "states are written as fast as this: a local disk is faster")
    return Finding("disk speed", "ok", said)


def _locks(made: Path) -> Finding:
    with (made / "lock").open("wb") as first, (made / "lock").open("wb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            told = f"flock: {error.strerror or error}"
            return Finding(
                "locks", "warning", told, "let no two runs write into one output: nothing here keeps them apart"
            )
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return Finding("locks", "ok", "one process keeps another out of a folder")
    return Finding("locks", "warning", "flock lets everybody in", "let no two runs write into one output")


def _links(made: Path) -> Finding:
    (made / "one").write_bytes(b"")
    try:
        os.link(made / "one", made / "other")
    except OSError as error:
        return Finding(
            "hard links",
            "warning",
            f"{error.strerror or error}",
            "nothing is lost: files are copied where they would be linked",
        )
    return Finding("hard links", "ok", "the folder takes them: what is copied within it takes no space")
