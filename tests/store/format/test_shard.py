"""The shard as bytes, and as three other libraries read it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr

from relope.store.format.manifest import ArraySpec
from relope.store.format.shard import ShardWriter


def crc32c(block: bytes) -> int:
    """The textbook bitwise CRC-32C, to check against."""
    crc = 0xFFFFFFFF
    for byte in block:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def spec_of(columns: int, stored: str) -> ArraySpec:
    return ArraySpec("a", columns, stored, np.dtype(stored), {"note": "x"})


def write(folder: Path, values: np.ndarray[Any, Any], step: int) -> None:
    shard = ShardWriter(folder, spec_of(values.shape[1], values.dtype.name))
    for start in range(0, len(values), step):
        shard.append(values[start : start + step])
    shard.seal()


def test_bytes_by_hand(tmp_path: Path) -> None:
    values = np.arange(3 * 2, dtype=np.uint16).reshape(3, 2)
    write(tmp_path / "a", values, 1)
    chunk = struct.pack("<6H", *range(6))
    index = struct.pack("<QQ", 0, 16)
    expected = chunk + struct.pack("<I", crc32c(chunk)) + index + struct.pack("<I", crc32c(index))
    assert (tmp_path / "a/c/0/0").read_bytes() == expected
    document = json.loads((tmp_path / "a/zarr.json").read_text())
    assert (document["shape"], document["data_type"], document["attributes"]) == ([3, 2], "uint16", {"note": "x"})


def test_the_last_chunk_is_padded_with_zeros(tmp_path: Path) -> None:
    write(tmp_path / "a", np.full((300, 2), 7, np.uint16), 100)
    second = (tmp_path / "a/c/0/0").read_bytes()[256 * 4 + 4 :][: 256 * 4]
    assert np.frombuffer(second, np.uint16).tolist() == [7] * 44 * 2 + [0] * 212 * 2


@pytest.mark.parametrize("stored", ["uint16", "float32", "int32"])
@pytest.mark.parametrize(("n_rows", "step"), [(1, 1), (255, 100), (256, 256), (257, 300), (700, 700), (1024, 7)])
def test_other_libraries_read_it_back(tmp_path: Path, stored: str, n_rows: int, step: int) -> None:
    values = np.random.default_rng(n_rows).integers(0, 60_000, (n_rows, 5)).astype(stored)
    write(tmp_path / "a", values, step)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[:], values)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[:], values)
    driver = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "a")}}
    np.testing.assert_array_equal(tensorstore.open(driver, read=True).result().read().result(), values)


def test_slices_of_a_larger_array_and_early_write_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relope.store.format.shard._WRITE_BACK_BYTES", 5_000)
    values = np.arange(2_000 * 8, dtype=np.uint16).reshape(2_000, 8)[:, ::2]
    write(tmp_path / "a", values, 611)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[:], values)
