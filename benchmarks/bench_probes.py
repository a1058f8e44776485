"""What fits cost: ``python benchmarks/bench_probes.py [--json]``, on one CPU thread.

Goals: an epoch of attention-probe from a store (1,000 samples, 158k tokens, H = 1024, bfloat16) takes at most 1.10× the
same from one tensor in memory and 0.65× that of probelab 0.1.0's attention probe on padded batches; a step of relope
through the whole backbone takes at least 20×, through its first blocks at least 10× the cached last-token step (12
blocks, l = 6, H = 512); and a fit of a store four times as large as the memory that it may allocate ends.

Memory is the anonymous memory in use (``RssAnon``: the peak above what it was when a small fit had loaded every
library) of a process that may allocate no more than a quarter of the store's bytes beside that (``RLIMIT_DATA``).
Pages of the store's mapped files are not counted: the system takes them back whenever it needs them.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from figures import Figure, at_least, at_most, main

from relope.probes.examples import Examples
from relope.probes.protocol import make
from relope.store import ActivationStore, RaggedBatch, StoreManifest, create_or_open
from relope.types import Capture

N, TOKENS, WIDTH = 1000, 158_000, 1024
BLOCKS, LAYER, HIDDEN, LENGTH, BATCH = 12, 6, 512, 256, 16
COLUMNS = ("id", "kind", "type", "position_0")


class InMemory(ActivationStore):
    """The same samples, their tokens in one array in memory."""

    def hold(self, layer: int) -> "InMemory":
        self.index  # noqa: B018 read before the clock runs
        self.whole = next(self.batches_of_store(layer)).values.copy()
        self.starts = np.concatenate([[0], np.cumsum(self.index.n_tokens)])
        return self

    def batches_of_store(self, layer: int) -> Iterator[RaggedBatch]:
        return super().batches(layer, size=len(self))

    def batches(self, layer: int, rows: Any = None, *, size: int, rng: Any = None, **_: Any) -> Iterator[RaggedBatch]:
        order = self.index.numbers(rows) if rng is None else rng.permutation(self.index.numbers(rows))
        pieces = [order[start : start + size] for start in range(0, len(order), size)]
        lengths = self.index.n_tokens
        buffer = np.empty((max(int(lengths[piece].sum()) for piece in pieces), WIDTH), self.whole.dtype)
        for piece in pieces:
            offsets = np.concatenate([[0], np.cumsum(lengths[piece])])
            for place, row in enumerate(piece.tolist()):
                start = self.starts[row]
                np.copyto(buffer[offsets[place] : offsets[place + 1]], self.whole[start : self.starts[row + 1]])
            yield RaggedBatch(piece, buffer[: offsets[-1]], offsets, self.manifest.dtype)


def write_store(path: Path, hidden: int, layers: tuple[int, ...], dtype: str, samples: Any) -> None:
    """Write a store from an iterator of (hidden states by layer) a sample."""
    identity = {"made": "for bench_probes", "hidden": hidden}
    writer = create_or_open(path, StoreManifest(identity, layers, hidden, dtype, COLUMNS))
    for first in range(0, N, 250):
        ids = [f"s{number:04}" for number in range(first, first + 250)]
        with writer.part(ids) as part:
            for name in ids:
                states = next(samples, None)
                if states is None:
                    return
                length = len(states[layers[0]])
                tokens = np.stack([np.arange(length), np.zeros(length), np.zeros(length), np.arange(length)], 1)
                row = {"id": name, "group": name, "split": "train"}
                answer = states[layers[0]][0]
                part.append([row], [Capture(states, answer, tokens.astype(np.int32))])
    writer.publish()


def token_store(path: Path) -> ActivationStore:
    """Write and open 1,000 samples of 60 to 256 random tokens, 158,000 in all."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(60, 257, N)
    while lengths.sum() != TOKENS:
        lengths[rng.integers(N)] = np.clip(lengths[rng.integers(N)] + np.sign(TOKENS - lengths.sum()), 60, 256)
        place = rng.integers(N)
        lengths[place] = np.clip(lengths[place] + TOKENS - lengths.sum(), 60, 256)

    def samples() -> Iterator[dict[int, Any]]:
        for length in lengths:
            states = torch.from_numpy(rng.standard_normal((length, WIDTH), np.float32)).bfloat16()
            yield {5: states.view(torch.uint16).numpy()}

    write_store(path, WIDTH, (5,), "bfloat16", samples())
    return ActivationStore.open(path)


def labelled(store: ActivationStore) -> Examples:
    return Examples(store, np.arange(len(store)), np.random.default_rng(1).random(len(store)) < 0.6, LAYER)


def epoch_seconds(store: ActivationStore, epochs: int) -> list[float]:
    """Return the seconds of each epoch but the first, in which chunks are checked."""
    ends: list[float] = []
    probe = make("attention-probe", {"epochs": epochs, "patience": epochs})
    probe.fit(labelled(store), seed=0, progress=lambda done, total: ends.append(time.perf_counter()))
    return [after - before for before, after in itertools.pairwise(ends[:-1])]


def attention_figures(folder: Path) -> dict[str, Figure]:
    store = token_store(folder / "tokens.zarr")
    memory = InMemory.open(store.path).hold(5)
    from_store, from_memory = [], []
    for _ in range(3):
        from_store += epoch_seconds(store, 4)
        from_memory += epoch_seconds(memory, 4)
    ours = statistics.median(from_store)
    found = {"attention_epoch_store_over_memory": at_most(ours / statistics.median(from_memory), 1.10)}
    theirs = probelab_seconds(memory)
    if isinstance(theirs, str):
        found["attention_epoch_over_probelab"] = Figure(None, f"<= 0.65, not measured: {theirs}", False)
    else:
        found["attention_epoch_over_probelab"] = at_most(ours / theirs, 0.65)
    return found


def probelab_seconds(memory: InMemory) -> float | str:
    """Return the seconds of one epoch of probelab's attention probe, or why it cannot be measured."""
    try:
        from importlib.metadata import version

        from probelab.activations import Activations
        from probelab.probes.attention import Attention
    except ImportError as error:
        return f"pip install probelab==0.1.0 ({error})"
    if version("probelab") != "0.1.0":
        return f"probelab is {version('probelab')}"
    tokens = torch.from_numpy(memory.whole).view(torch.bfloat16)
    data = Activations.from_flat(tokens, torch.from_numpy(memory.starts))
    labels = torch.from_numpy(labelled(memory).labels)
    spent = []
    for epochs in (1, 3):
        probe = Attention(
            batch_size=64, n_epochs=epochs, patience=epochs, val_split=0.15, seed=0, device="cpu", cast="float32"
        )
        begun = time.perf_counter()
        probe.fit(data, labels)
        spent.append(time.perf_counter() - begun)
    return (spent[1] - spent[0]) / 2


def relope_figures(folder: Path) -> dict[str, Figure]:
    """Time steps of one batch: forward, loss, backward, optimizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from relope.extract.model.streams import Streams
    from relope.extract.recipe import save_block

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=BLOCKS,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=1000,
        max_position_embeddings=1024,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    ids = torch.randint(0, 1000, (BATCH, LENGTH))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    backbone: Any = SimpleNamespace(
        model=model,
        blocks=model.get_decoder().layers,
        identity={"attention": "sdpa"},
        traits=SimpleNamespace(quantized=False, derives_positions=False, keeps_rope_deltas=False),
        inputs=lambda *_: inputs,
        to_device=dict,
    )
    states = model(**inputs, output_hidden_states=True).hidden_states
    path = folder / "steps.zarr"
    each = ({layer: states[layer][row].numpy() for layer in (LAYER - 1, LAYER)} for row in range(BATCH))
    write_steps(path, each)
    save_block(backbone, path, (LAYER - 1, LAYER))
    store = ActivationStore.open(path)
    streams = Streams(backbone, dict.fromkeys(store.samples["id"].to_list()))
    steps = {mode: step(store, streams, mode) for mode in ("cached", "truncated", "full")}
    spent: dict[str, list[float]] = {mode: [] for mode in steps}
    for number in range(6):
        for mode, run in steps.items():
            begun = time.perf_counter()
            for _ in range(5 if mode == "cached" else 1):
                run()
            took = (time.perf_counter() - begun) / (5 if mode == "cached" else 1)
            spent[mode] += [took] if number else []
    cached = statistics.median(spent["cached"])
    return {
        "relope_step_full_over_cached": at_least(statistics.median(spent["full"]) / cached, 20),
        "relope_step_truncated_over_cached": at_least(statistics.median(spent["truncated"]) / cached, 10),
    }


def write_steps(path: Path, each: Iterator[dict[int, Any]]) -> None:
    writer = create_or_open(path, StoreManifest({"made": "steps"}, (LAYER - 1, LAYER), HIDDEN, "float32", COLUMNS))
    names = [f"s{number}" for number in range(BATCH)]
    with writer.part(names) as part:
        for name, states in zip(names, each, strict=True):
            tokens = np.zeros((LENGTH, len(COLUMNS)), np.int32)
            tokens[:, 3] = np.arange(LENGTH)
            part.append([{"id": name, "group": name, "split": "train"}], [Capture(states, states[LAYER][-1], tokens)])
    writer.publish()


def step(store: ActivationStore, streams: Any, mode: str) -> Any:
    """Return a function that makes one training step in a mode."""
    from relope.probes.parallel import World

    probe: Any = make("relope", {"mode": mode, "batch": BATCH})
    examples = Examples(store, np.arange(BATCH), np.arange(BATCH) % 2 > 0, LAYER, streams)
    probe._build(examples, 0)
    probe.learned_.train()
    optimizer = torch.optim.AdamW(probe.learned_.parameters(), fused=True)
    noise, truth = torch.randn(BATCH, probe.params.z), examples.labels

    def run() -> None:
        (batch,) = probe._batches(examples, np.arange(BATCH), World())
        optimizer.zero_grad()
        probe._loss(examples, batch, noise, truth).backward()
        optimizer.step()

    return run


def memory_figures(folder: Path) -> dict[str, Figure]:
    """Fit in a process that may allocate a quarter of the store's token bytes."""
    path, allowed = folder / "tokens.zarr", TOKENS * WIDTH * 2 // 4
    done = subprocess.run(
        [sys.executable, __file__, "--fit-within", str(path), str(allowed)], capture_output=True, text=True, check=False
    )
    peak = float(done.stdout) if done.returncode == 0 else float("inf")
    return {"attention_fit_bytes_over_store_bytes": at_most(peak / (TOKENS * WIDTH * 2), 0.25)}


def fit_within(path: Path, allowed: int) -> None:
    """Fit two epochs, unable to allocate more than so many bytes; print the most that were in use."""
    store = ActivationStore.open(path)
    examples = labelled(store)
    peaks = [0]
    probe = make("attention-probe", {"epochs": 2})
    probe.fit(examples.take(np.arange(100)), seed=0)  # loads what is loaded lazily: code is no data of the store
    before, start = status_bytes("VmData"), status_bytes("RssAnon")
    resource.setrlimit(resource.RLIMIT_DATA, (before + allowed, before + allowed))
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peaks[0] = max(peaks[0], status_bytes("RssAnon"))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    probe.fit(examples, seed=0)
    over.set()
    watcher.join()
    sys.stdout.write(f"{peaks[0] - start}\n")


def status_bytes(field: str) -> int:
    """Return one of the kernel's counts of this process: VmData is what ``RLIMIT_DATA`` bounds."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def measure() -> dict[str, Figure]:
    """Return name → figure."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {**attention_figures(folder), **memory_figures(folder), **relope_figures(folder)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fit-within"]:
        fit_within(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(measure, __doc__)
