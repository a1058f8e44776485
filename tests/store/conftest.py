"""Stores to read, and stores to spoil."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_stores import Made, make_manifest, make_store

from relope.store import create_or_open


@pytest.fixture(autouse=True, scope="package")
def _no_fsync() -> Iterator[None]:
    """Power cuts cannot be tested, and waiting for the disk takes most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Made]:
    def _build(name: str = "x.zarr", **options: Any) -> Made:
        return make_store(tmp_path / name, **options)

    return _build


@pytest.fixture
def made(kept: Made, tmp_path: Path) -> Made:
    """A store that a test may change or spoil."""
    return _copy(kept, tmp_path)


@pytest.fixture
def small(kept_small: Made, tmp_path: Path) -> Made:
    """The same with one part, for tests that look at it often."""
    return _copy(kept_small, tmp_path)


def _copy(kept: Made, folder: Path) -> Made:
    path = Path(shutil.copytree(kept.path, folder / "x.zarr"))
    return Made(path, kept.manifest, kept.captures, create_or_open(path, kept.manifest), kept.parts)


@pytest.fixture(scope="session")
def kept_small(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store of one part of two samples."""
    return make_store(tmp_path_factory.mktemp("small") / "x.zarr", parts=["ac"])


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store that tests only read."""
    return make_store(tmp_path_factory.mktemp("kept") / "x.zarr")


@pytest.fixture(scope="session")
def kept_float32(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same samples in float32."""
    return make_store(tmp_path_factory.mktemp("float32") / "x.zarr", make_manifest(dtype="float32"))
