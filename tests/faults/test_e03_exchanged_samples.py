"""E3: a part's id is held against its samples, its arrays against what these say, by all who read or share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_stores import Made, furnish, make_manifest, make_store, reseal

from relope.errors import StoreError
from relope.provenance import digest
from relope.store import convert, open_store, read_samples, verify
from relope.store.format.codec import crc32c
from relope.store.share.pull import pull
from relope.store.share.push import push
from relope.store.share.remote_reader import RemoteStore


@pytest.fixture
def exchanged(tmp_path: Path) -> Path:
    """A store whose two parts, alike in length, have each other's samples, every digest made anew."""
    lengths = {"a": 3, "b": 4, "c": 3, "d": 4}
    made = make_store(tmp_path / "x.zarr", parts=["ab", "cd"], lengths=lengths)
    first, second = (made.folder(number) / "samples.parquet" for number in (0, 1))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    for number, ids in enumerate(("cd", "ab")):
        reseal(made.folder(number), samples=digest(list(ids)))
    return made.path


READERS: dict[str, Callable[[Path, Path], object]] = {
    "open": lambda store, out: open_store(store).samples,
    "convert": lambda store, out: convert(store, out),
    "push": lambda store, out: push(store, out.as_uri()),
    "pull": lambda store, out: pull(store.as_uri(), out),
    "remote": lambda store, out: RemoteStore.open_uri(store.as_uri()).samples,
}


@pytest.mark.parametrize("reader", READERS)
def test_e3_samples_of_another_part_are_refused(exchanged: Path, tmp_path: Path, reader: str) -> None:
    assert read_samples(exchanged, next(iter(open_store(exchanged).parts))).height == 2, "each file alone looks sound"
    with pytest.raises(StoreError, match=r"do not hash to (its|the part's) id"):
        READERS[reader](exchanged, tmp_path / "out.zarr")
    assert not list((tmp_path / "out.zarr").glob("parts/[0-9a-f]*"))


def resealed_index(made: Made) -> None:
    """Let the index of a packed shard name its chunks in another order, with every checksum made anew."""
    shard = made.folder() / "hidden/2/c/0/0"
    content = shard.read_bytes()
    index = np.frombuffer(content[-16 * 2 - 4 : -4], "<u8").reshape(2, 2)[::-1].tobytes()
    shard.write_bytes(content[: -16 * 2 - 4] + index + crc32c(index))
    reseal(made.folder())


def test_e3_a_resealed_shard_index_is_not_shared(tmp_path: Path) -> None:
    made = furnish(make_store(tmp_path / "x.zarr", make_manifest(), parts=["b"], codec="zstd"))
    shutil.copytree(made.path, tmp_path / "sound.zarr")
    push(tmp_path / "sound.zarr", (tmp_path / "team.zarr").as_uri())
    resealed_index(made)
    assert verify(made.path) == [] and verify(made.path, deep=True) != []
    with pytest.raises(StoreError, match=r"is damaged \(.*\), so it is not shared"):
        push(made.path, (tmp_path / "other.zarr").as_uri())
    with pytest.raises(StoreError, match=r"is damaged \(.*\), so nothing of it is kept"):
        pull(made.path.as_uri(), tmp_path / "pulled.zarr")
    assert not list((tmp_path / "pulled.zarr").glob("parts/[0-9a-f]*"))
