"""Packed chunks: as other libraries read them, in pieces, and when somebody has tampered with them."""

import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from made_stores import Made, make_manifest, reseal, tree_bytes
from numcodecs import blosc
from numcodecs.zstd import Zstd

from relope.errors import StoreError
from relope.provenance import write_json
from relope.store import ActivationStore, StoreManifest, create_or_open, verify
from relope.store.format.codec import Blocks, crc32c, encode
from relope.types import Capture

WIDE = 3_000
"""So wide that a chunk of 256 rows is two blocks of 1 MiB, the second one shorter."""


def wide_rows(n: int, columns: int = WIDE) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(n)
    return (rng.normal(size=(n, columns)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray[Any, Any], list[int]]:
    path, lengths = tmp_path_factory.mktemp("wide") / "x.zarr", [100, 56, 300, 1, 250]
    rows = wide_rows(sum(lengths))
    writer = create_or_open(path, StoreManifest({"r": 1}, (1,), WIDE, "bfloat16", ("kind",)), codec="zstd")
    with writer.part([str(n) for n in range(5)]) as part:
        for n, values in enumerate(np.split(rows, np.cumsum(lengths)[:-1])):
            part.append([{"id": str(n)}], [Capture({1: values}, values[0], np.zeros((len(values), 1), np.int32))])
    writer.publish()
    return path, rows, lengths


def test_other_libraries_read_it(wide: tuple[Path, np.ndarray[Any, Any], list[int]]) -> None:
    path, rows, _ = wide
    array = next((path / "parts").glob("*/hidden/1"))
    np.testing.assert_array_equal(zarr.open_array(str(array), mode="r")[:], rows)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(str(array), mode="r")[:], rows)
    driver = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    np.testing.assert_array_equal(tensorstore.open(driver, read=True).result().read().result(), rows)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [3]])
def test_in_any_order(wide: tuple[Path, np.ndarray[Any, Any], list[int]], order: list[int]) -> None:
    path, rows, lengths = wide
    pieces = np.split(rows, np.cumsum(lengths)[:-1])
    with ActivationStore.open(path) as store:
        np.testing.assert_array_equal(store.read(1, order).values, np.concatenate([pieces[n] for n in order]))
        for batch in store.batches(1, order, size=1):
            np.testing.assert_array_equal(batch.values, pieces[batch.rows[0]])
        last = (store.last(1, order).view(np.uint32) >> 16).astype(np.uint16)
        np.testing.assert_array_equal(last, np.stack([pieces[n][-1] for n in order]))


def test_many_threads_read_one_store(wide: tuple[Path, np.ndarray[Any, Any], list[int]]) -> None:
    path, rows, lengths = wide
    pieces, wrong = np.split(rows, np.cumsum(lengths)[:-1]), []
    with ActivationStore.open(path) as store:

        def work(seed: int) -> None:
            for batch in store.batches(1, size=2, rng=np.random.default_rng(seed)):
                same = np.array_equal(batch.values, np.concatenate([pieces[n] for n in batch.rows]))
                wrong.extend([] if same else [seed])

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("columns", [1, 511, 4_096, WIDE])
@pytest.mark.parametrize("kind", ["real", "random", "zero"])
def test_each_block_alone(columns: int, kind: str) -> None:
    rows = wide_rows(256, columns)
    if kind == "random":  # Blosc then stores it plain
        rows = np.random.default_rng(0).integers(0, 1 << 16, rows.shape, dtype=np.uint16)
    elif kind == "zero":
        rows[:] = 0
    blocks = Blocks(encode("zstd", rows), rows.dtype, rows.nbytes)
    out = np.zeros(rows.nbytes, np.uint8)
    for number in reversed(range(blocks.n)):
        blocks.unpack(number, out)
    np.testing.assert_array_equal(out, rows.view(np.uint8).reshape(-1))
    assert blocks.n == -(-rows.nbytes // (1 << 20))


def test_the_same_rows_give_the_same_bytes_on_any_thread() -> None:
    rows, found = wide_rows(256), []
    here = [encode("zstd", rows).tobytes() for _ in range(5)]
    thread = threading.Thread(target=lambda: found.append(encode("zstd", rows).tobytes()))
    thread.start()
    thread.join()
    assert len({*here, *found}) == 1


@pytest.mark.parametrize("place", [0, 100, -1, -30])
def test_a_flipped_byte_is_found(build: Callable[..., Made], place: int) -> None:
    made = build(parts=["b"], codec="zstd")
    shard = made.folder() / "hidden/2/c/0/0"
    content = bytearray(shard.read_bytes())
    content[place] ^= 0x10
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"hidden/2/c/0/0 in .* is damaged: the CRC of"):
        list(ActivationStore.open(made.path).batches(2, size=1))
    assert {problem.file for problem in verify(made.path)} == {"hidden/2/c/0/0"}


def tamper(shard: Path, change: Callable[[bytearray], object]) -> None:
    """Change the first chunk of a shard and put every checksum right again."""
    content = shard.read_bytes()
    offset, size = struct.unpack("<QQ", content[-20:-4])
    chunk = bytearray(content[offset : offset + size - 4])
    change(chunk)
    index = struct.pack("<QQ", 0, len(chunk) + 4)
    shard.write_bytes(bytes(chunk) + crc32c(bytes(chunk)) + index + crc32c(index))


HEADERS: dict[str, Callable[[bytearray], object]] = {
    "unpacks to 2 GiB": lambda chunk: struct.pack_into("<I", chunk, 4, (1 << 31) - 1),
    "unpacks to nothing": lambda chunk: struct.pack_into("<I", chunk, 4, 0),
    "a block of 2 GiB": lambda chunk: struct.pack_into("<I", chunk, 8, (1 << 31) - 1),
    "a block of nothing": lambda chunk: struct.pack_into("<I", chunk, 8, 0),
    "more than the file": lambda chunk: struct.pack_into("<I", chunk, 12, 1 << 30),
    "another type": lambda chunk: struct.pack_into("<B", chunk, 3, 8),
    "no header": lambda chunk: chunk.__delitem__(slice(10, None)),
    "a block that starts outside": lambda chunk: struct.pack_into("<I", chunk, 16, 1 << 30),
    "a stream that is none": lambda chunk: chunk.__setitem__(slice(20, 60), b"\xff" * 40),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_bomb_or_nonsense_with_every_checksum_right(build: Callable[..., Made], name: str) -> None:
    made = build(parts=["a", "e"], codec="zstd")
    tamper(made.folder(1) / "hidden/2/c/0/0", HEADERS[name])
    store = ActivationStore.open(made.path)
    for read in (lambda: store.read(2, [1]), lambda: store.array(1, "hidden/2").take(np.arange(3), np.empty((3, 6)))):
        with pytest.raises(StoreError, match=r"hidden/2/c/0/0 in .* is damaged: chunk 0"):
            read()
    assert any(problem.part == made.parts[1] for problem in verify(made.path, deep=True))


def foreign(made: Made, codecs: list[dict[str, Any]], chunk: bytes) -> None:
    """Replace an array by one unsharded chunk under other codecs."""
    array = made.folder() / "hidden/2"
    document = json.loads((array / "zarr.json").read_text())
    document["chunk_grid"]["configuration"]["chunk_shape"] = document["shape"]
    document["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}, *codecs]
    write_json(array / "zarr.json", document)
    (array / "c/0/0").write_bytes(chunk)


def test_foreign_codecs_and_their_bombs(build: Callable[..., Made]) -> None:
    made = build(parts=["e"])
    rows, store = made.captures["e"].hidden[2], ActivationStore.open
    zstd, packed = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}, Zstd(1).encode(rows)
    foreign(made, [zstd], packed)
    np.testing.assert_array_equal(store(made.path).read(2).values, rows)
    for bomb in (Zstd(1).encode(bytes(1 << 28)), packed[:4] + b"\xc0\x50" + b"\xff" * 8 + packed[6:], b"none"):
        foreign(made, [zstd], bomb)
        if bomb:
            with pytest.raises(StoreError, match=r"hidden/2 in .* not readable by zarr: .* must unpack to 480 bytes"):
                store(made.path).read(2)
    settings = {"typesize": 2, "cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}
    foreign(made, [{"name": "blosc", "configuration": settings}], blosc.compress(rows, b"zstd", 1))
    np.testing.assert_array_equal(store(made.path).read(2).values, rows)
    foreign(made, [{"name": "blosc", "configuration": settings}], blosc.compress(bytes(1 << 24), b"zstd", 1))
    with pytest.raises(StoreError, match="must unpack to 480 bytes, it says 16,777,216"):
        store(made.path).read(2)
    for refused in ([{"name": "gzip", "configuration": {"level": 1}}], [zstd, zstd], [{"name": "numcodecs.pickle"}]):
        foreign(made, refused, packed)
        with pytest.raises(StoreError, match=r"codecs .* are not read"):
            store(made.path).read(2)


def test_a_table_of_very_many_rows_is_not_read(build: Callable[..., Made]) -> None:
    import polars as pl

    made = build(parts=["c"])
    pl.DataFrame({"id": pl.repeat("a", 30_000_000, eager=True)}).write_parquet(made.folder() / "samples.parquet")
    assert (made.folder() / "samples.parquet").stat().st_size < 100_000
    reseal(made.folder())
    with pytest.raises(StoreError, match=r"samples\.parquet in .* claims"):
        _ = ActivationStore.open(made.path).samples


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from relope.errors import OutputError
from relope.store import create_or_open, read_manifest
from relope.types import Capture
writer = create_or_open(Path(sys.argv[1]), read_manifest(Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
values = np.zeros((9_000, 6), np.uint16)
try:
    with writer.part(["big"]) as part:
        part.append([{"id": "big"}], [Capture({2: values, 3: values}, values[0], np.zeros((9_000, 2), np.int32))])
except OutputError as error:
    sys.stdout.write(error.lines)
"""


def test_the_system_refuses_more_bytes(made: Made) -> None:
    before = tree_bytes(made.path)
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", FULL, made.path], capture_output=True, text=True, check=True, cwd=root)
    assert "cannot write" in done.stdout and "File too large\nchoose another --out" in done.stdout
    assert tree_bytes(made.path) == before and verify(made.path, deep=True) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_is_packed_is_smaller_and_the_same(build: Callable[..., Made], dtype: str) -> None:
    plain = build("1.zarr", manifest=make_manifest(dtype=dtype))
    packed = build("2.zarr", manifest=make_manifest(dtype=dtype), codec="zstd")
    assert plain.parts == packed.parts
    one, two = ActivationStore.open(plain.path), ActivationStore.open(packed.path)
    assert one.content_id == two.content_id
    np.testing.assert_array_equal(one.read(3).values, two.read(3).values)
    np.testing.assert_array_equal(one.answer(), two.answer())
