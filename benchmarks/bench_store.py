"""What the activation store costs: ``python benchmarks/bench_store.py [--json] [--quick]``, five minutes.

1.2 GB of bfloat16 rows, 3,584 wide, of samples of 50–1500 tokens, in a temporary folder. Speeds are against a copy of
the same rows out of a raw ``np.memmap`` into the same reused buffer. What hashes, packs or writes on threads of its own
needs two idle cores to show what it can. Memory and sizes on disk are measured once.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from figures import ROUNDS, Figure, at_least, at_most, main, ratios, rounds, shown

from relope.store import ActivationStore, StoreManifest, convert, create_or_open, to_float32
from relope.types import Capture

LAYER = 1
"""The layer whose tokens are stored; of layer 2 only the last token is."""

BATCH = 64
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sizes:
    """How many samples of how many tokens of what width, and what else is read and written."""

    width: int = 3584
    samples: int = 217
    tokens: tuple[int, int] = (50, 1500)
    last_rows: int = 16_000
    written: int = 64
    extracted: int = 800
    slowed_s: float = 1.0


QUICK = Sizes(64, 65, (5, 50), 400, 16, 20, 0.02)


def states(n_rows: int, width: int) -> Array:
    """Return bfloat16 bits of normal values whose scale differs from column to column, as in hidden states."""
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(size=width)).astype(np.float32)
    values = rng.standard_normal((n_rows, width), dtype=np.float32) * scale
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def samples(base: Array, lengths: Array) -> list[Array]:
    """Return ``[T, H]`` rows of each sample: slices of the same values, cut differently."""
    starts = np.random.default_rng(1).integers(0, len(base) - max(lengths), len(lengths))
    return [base[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def write(path: Path, values: list[Array], per_part: int, codec: str = "none") -> None:
    manifest = StoreManifest(
        {"r": 1}, (LAYER, 2), values[0].shape[1], "bfloat16", ("kind",), tokens="lean", token_layers=(LAYER,)
    )
    writer, order = create_or_open(path, manifest, codec=codec), []
    for start in range(0, len(values), per_part):
        ids = [str(n) for n in range(start, min(start + per_part, len(values)))]
        order.append(writer.part_id(ids))
        with writer.part(ids) as part:
            for name in ids:
                rows = values[int(name)]
                capture = Capture({LAYER: rows, 2: rows[-1:]}, rows[-1], np.zeros((len(rows), 1), np.int32))
                part.append([{"id": name}], [capture])
    writer.publish(order)


class Bench:
    """The data on disk, and the ways to read it."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes
        self.lengths = np.random.default_rng(2).integers(*sizes.tokens, sizes.samples)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.values = samples(states(8192, sizes.width), self.lengths)
        self.buffer = np.zeros((BATCH * sizes.tokens[1], sizes.width), np.uint16)
        self.order = np.random.default_rng(3).permutation(len(self.lengths))
        with (folder / "raw").open("wb") as file:
            for rows in self.values:
                file.write(np.ascontiguousarray(rows).data)
        write(folder / "none.zarr", self.values, 80)

    def mapped(self) -> Array:
        """Map the raw rows anew."""
        return np.memmap(self.folder / "raw", np.uint16, mode="r").reshape(-1, self.sizes.width)

    def raw(self, order: Array, rows: Array) -> None:
        for start in range(0, len(order), BATCH):
            filled = 0
            for number in order[start : start + BATCH].tolist():
                length, first = int(self.lengths[number]), int(self.starts[number])
                np.copyto(self.buffer[filled : filled + length], rows[first : first + length])
                filled += length

    def read(self, store: ActivationStore, order: Array) -> None:
        for _ in store.batches(LAYER, order, size=BATCH, out=self.buffer):
            pass


def reading(bench: Bench) -> dict[str, Figure]:
    order, straight = bench.order, np.arange(len(bench.lengths))
    mapped = bench.mapped()
    path = bench.folder / "none.zarr"
    store = ActivationStore.open(path)
    n = 15
    unread = [ActivationStore.open(path) for _ in range(n)]  # nothing mapped or checked yet
    for each in unread:
        len(each)
    seconds = rounds(
        {
            "raw shuffled": lambda: bench.raw(order, mapped),
            "shuffled": lambda: bench.read(store, order),
            "raw straight": lambda: bench.raw(straight, mapped),
            "straight": lambda: bench.read(store, straight),
            "raw first": lambda: bench.raw(order, bench.mapped()),
            "first": lambda: bench.read(unread.pop(), order),
        },
        n,
    )
    peers = others(bench, store)
    return {
        "shuffled_to_memmap": at_least(ratios(seconds["raw shuffled"], seconds["shuffled"]), 0.90),
        "sequential_to_memmap": at_least(ratios(seconds["raw straight"], seconds["straight"]), 0.90),
        "first_touch_with_crc_to_memmap": at_least(ratios(seconds["raw first"], seconds["first"]), 0.50),
        "times_faster_than_torch_load": at_least(ratios(peers["torch"], peers["store"]), 3),
        "times_faster_than_zarr_python": at_least(ratios(peers["zarr"], peers["store"]), 3.5),
    }


def others(bench: Bench, store: ActivationStore) -> dict[str, list[float]]:
    """Time one ``.pt`` file a sample, and zarr-python on the store's own arrays."""
    import torch
    import zarr

    files = bench.folder / "pt"
    files.mkdir()
    for number, rows in enumerate(bench.values):
        torch.save(torch.from_numpy(rows.copy()).view(torch.bfloat16), files / f"{number}.pt")
    arrays = [zarr.open_array(str(store.path / "parts" / part / f"hidden/{LAYER}"), mode="r") for part in store.parts]
    target = torch.from_numpy(bench.buffer).view(torch.bfloat16)

    def load() -> None:
        for start in range(0, len(bench.order), BATCH):
            filled = 0
            for number in bench.order[start : start + BATCH].tolist():
                rows = torch.load(files / f"{number}.pt", weights_only=True)
                target[filled : filled + len(rows)] = rows
                filled += len(rows)

    def zarr_python() -> None:
        index = store.index
        for start in range(0, len(bench.order), BATCH):
            filled = 0
            for number in bench.order[start : start + BATCH].tolist():
                first, length = int(index.offset[number]), int(index.n_tokens[number])
                bench.buffer[filled : filled + length] = arrays[index.part[number]][first : first + length]
                filled += length

    return rounds({"store": lambda: bench.read(store, bench.order), "torch": load, "zarr": zarr_python})


def last_tokens(bench: Bench) -> dict[str, Figure]:
    """Gather half of 16,000 rows as float32."""
    n, folder = bench.sizes.last_rows, bench.folder
    base = states(n // 8, bench.sizes.width)
    write(folder / "last.zarr", [base[row % len(base)][None] for row in range(n)], n // 4)
    raw, store = folder / "last", ActivationStore.open(folder / "last.zarr")
    raw.write_bytes(np.concatenate([base] * 8).tobytes())
    mapped = np.memmap(raw, np.uint16, mode="r").reshape(n, -1)
    rows = np.sort(np.random.default_rng(4).permutation(n)[: n // 2])
    seconds = rounds({"raw": lambda: to_float32(mapped[rows], "bfloat16"), "store": lambda: store.last(2, rows)}, 9)
    return {"last_tokens_to_raw_gather": at_most(ratios(seconds["store"], seconds["raw"]), 2)}


class _NoHash:
    """Stands in for sha256 where its cost is to be left out."""

    def update(self, block: object) -> None:
        """Do nothing."""

    def hexdigest(self) -> str:
        return "0" * 64


def writing(bench: Bench) -> dict[str, Figure]:
    """Write a part of 350 MB with fsync, with and without sha256, against the bare bytes with fsync."""
    values, turn = bench.values[: bench.sizes.written], iter(range(1000))

    def raw() -> None:
        with (bench.folder / f"append{next(turn)}").open("xb", buffering=0) as file:
            for rows in values:
                file.write(np.ascontiguousarray(rows).data)
            os.fsync(file.fileno())

    def part() -> None:
        write(bench.folder / f"w{next(turn)}.zarr", values, len(values))

    def part_without_sha256() -> None:
        real = hashlib.sha256
        with mock.patch.object(hashlib, "sha256", lambda *content: real(*content) if content else _NoHash()):
            part()

    seconds = rounds({"raw": raw, "crc": part_without_sha256, "sha": part})
    return {
        "writer_with_crc_to_append": at_least(ratios(seconds["raw"], seconds["crc"]), 0.75),
        "writer_with_sha256_to_append": at_least(ratios(seconds["raw"], seconds["sha"]), 0.50),
        "background_writing_slows_by": at_most([ratio - 1 for ratio in slowed(bench)], 0.02),
    }


def slowed(bench: Bench) -> list[float]:
    """Return how many times longer a producing loop takes while a thread writes what it produces at 370 MB/s."""
    import torch

    torch.set_num_threads(1)  # the second core is the writer's
    a = torch.randn(768, 768)
    rows = bench.values[0][:50]

    def produce(n: int) -> float:
        begun = time.perf_counter()
        for _ in range(n):
            torch.mm(a, a)
        return time.perf_counter() - begun

    def write_until(stop: threading.Event, path: Path) -> None:
        manifest = StoreManifest({"r": 1}, (LAYER,), bench.sizes.width, "bfloat16", ("kind",))
        ids = [str(n) for n in range(100_000)]
        with contextlib.suppress(ValueError), create_or_open(path, manifest).part(ids) as part:
            begun, written = time.perf_counter(), 0
            for name in ids:
                if stop.is_set():
                    raise ValueError
                capture = Capture({LAYER: rows}, rows[-1], np.zeros((len(rows), 1), np.int32))
                part.append([{"id": name}], [capture])
                written += rows.nbytes
                time.sleep(max(0.0, written / 370e6 - (time.perf_counter() - begun)))

    n = max(1, int(bench.sizes.slowed_s / (produce(20) / 20)))
    slower = []
    for turn in range(ROUNDS):
        alone = produce(n)
        stop = threading.Event()
        thread = threading.Thread(target=write_until, args=(stop, bench.folder / f"behind{turn}.zarr"))
        thread.start()
        time.sleep(0.1)
        slower.append(produce(n) / alone)
        stop.set()
        thread.join()
    return slower


def packed(bench: Bench) -> dict[str, Figure]:
    """Read the same store packed as zstd, a thread at a time and on two."""
    from numcodecs import blosc

    convert(bench.folder / "none.zarr", bench.folder / "zstd.zarr", codec="zstd")
    store, mapped = ActivationStore.open(bench.folder / "zstd.zarr"), bench.mapped()
    order, straight = bench.order, np.arange(len(bench.order))
    halves = [np.zeros((16 * bench.sizes.tokens[1], bench.sizes.width), np.uint16) for _ in range(2)]

    def half(number: int) -> None:
        for _ in store.batches(LAYER, order[number::2], size=16, out=halves[number]):
            pass

    def both() -> None:
        threads = [threading.Thread(target=half, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with mock.patch.object(blosc, "use_threads", False):  # else numcodecs uses every core in the main thread
        seconds = rounds(
            {
                "raw": lambda: bench.raw(order, mapped),
                "shuffled": lambda: bench.read(store, order),
                "straight": lambda: bench.read(store, straight),
                "one": lambda: (half(0), half(1)),
                "two": both,
            }
        )
    return {
        "zstd_shuffled_to_memmap": at_least(ratios(seconds["raw"], seconds["shuffled"]), 0.17),
        "zstd_sequential_to_memmap": at_least(ratios(seconds["raw"], seconds["straight"]), 0.25),
        "zstd_two_threads": at_least(ratios(seconds["one"], seconds["two"]), 1.8),
    }


def order_0_limit(values: Array) -> float:
    """Return how much smaller values can get when each byte plane is coded by its own frequencies alone."""
    planes = values.view(np.uint8).reshape(-1, values.dtype.itemsize)
    bits = 0.0
    for plane in planes.T:
        share = np.bincount(plane, minlength=256) / len(plane)
        bits -= float((share[share > 0] * np.log2(share[share > 0])).sum())
    return 8 * planes.shape[1] / bits


def real_states(bench: Bench) -> dict[str, Figure]:
    """Pack what the embedded models leave behind, in bfloat16."""
    figures, limit = {}, bench.sizes.extracted
    for model in ("tiny-vl", "tiny-vl-large"):
        plain, small = bench.folder / f"{model}.zarr", bench.folder / f"{model}-zstd.zarr"
        command = f"extract --model {model} --dataset tiny --split test --store-dtype bfloat16 --limit {limit}".split()
        relope = [sys.executable, "-c", "from relope.cli import main; main()"]
        subprocess.run([*relope, *command, "--out", str(plain)], check=True, stderr=subprocess.DEVNULL)
        convert(plain, small, codec="zstd")
        store = ActivationStore.open(plain)
        layer = max(store.layers)
        bound = order_0_limit(store.read(layer).values)
        sizes = [
            sum(path.stat().st_size for path in root.glob(f"parts/*/hidden/{layer}/c/0/0")) for root in (plain, small)
        ]
        name = model.replace("-", "_")
        figures[f"zstd_smaller_{name}"] = at_least(sizes[0] / sizes[1], min(1.38, 0.97 * bound))
        figures[f"order_0_limit_{name}"] = shown(bound)
    return figures


@contextlib.contextmanager
def peak_of_anonymous_memory(peaks: list[float]) -> Iterator[None]:
    """Append the MiB of memory that no file backs, at its most above what it was, while the block runs."""

    def resident() -> int:
        text = Path("/proc/self/status").read_text()
        return int(text[text.index("RssAnon:") :].split()[1])

    stop, most, before = threading.Event(), [0], resident()

    def watch() -> None:
        while not stop.wait(0.001):
            most[0] = max(most[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    stop.set()
    thread.join()
    peaks.append(max(0, max(most[0], resident()) - before) / 1024)


def memory(bench: Bench) -> dict[str, Figure]:
    """Measure what is needed beyond the caller's own batch."""
    reader: list[float] = []
    writer: list[float] = []
    for name in ("none", "zstd"):
        store = ActivationStore.open(bench.folder / f"{name}.zarr")
        len(store)
        with peak_of_anonymous_memory(reader):
            bench.read(store, bench.order)
    with peak_of_anonymous_memory(writer):
        write(bench.folder / "memory.zarr", bench.values[: bench.sizes.written], bench.sizes.written)
    return {"reader_mib": at_most(max(reader), 16), "writer_mib": at_most(max(writer), 64)}


def measure(quick: bool) -> dict[str, Figure]:
    """Return name → figure."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), QUICK if quick else Sizes())
        figures = reading(bench) | packed(bench) | memory(bench)
        return figures | last_tokens(bench) | writing(bench) | real_states(bench)


if __name__ == "__main__":
    main(measure, __doc__)
