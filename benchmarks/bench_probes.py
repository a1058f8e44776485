"""What fits cost: ``python benchmarks/bench_probes.py [--json] [--quick]``, on one CPU thread, four minutes.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from figures import ROUNDS, Figure, at_least, at_most, main, ratios, rounds

from relope.probes.examples import Examples
from relope.probes.protocol import make
from relope.store import ActivationStore, RaggedBatch, StoreManifest, create_or_open
from relope.types import Capture

BLOCKS, LAYER = 12, 6
"""Blocks of the model that relope streams, and the one after which its states are taken."""

EPOCHS = 4
COLUMNS = ("id", "kind", "type", "position_0")


@dataclass(frozen=True)
class Sizes:
    """How many samples of what width are fitted on, and what one step of relope takes."""

    samples: int = 1000
    width: int = 1024
    batch: int = 16
    length: int = 256
    hidden: int = 512

    @property
    def tokens(self) -> int:
        """Return the tokens of all samples, 60 to 256 each."""
        return 158 * self.samples

    @property
    def store_bytes(self) -> int:
        """Return the bytes of all tokens in bfloat16."""
        return self.tokens * self.width * 2


QUICK = Sizes(samples=120, width=16, batch=4, length=16, hidden=64)


class InMemory(ActivationStore):
    """The same samples, their tokens in one array in memory."""

    def hold(self, layer: int) -> "InMemory":
        self.index  # noqa: B018 read before the clock runs
        self.whole = next(super().batches(layer, size=len(self))).values.copy()
        self.starts = np.concatenate([[0], np.cumsum(self.index.n_tokens)])
        return self

    def batches(self, layer: int, rows: Any = None, *, size: int, rng: Any = None, **_: Any) -> Iterator[RaggedBatch]:
        order = self.index.numbers(rows) if rng is None else rng.permutation(self.index.numbers(rows))
        pieces = [order[start : start + size] for start in range(0, len(order), size)]
        lengths = self.index.n_tokens
        buffer = np.empty((max(int(lengths[piece].sum()) for piece in pieces), self.whole.shape[1]), self.whole.dtype)
        for piece in pieces:
            offsets = np.concatenate([[0], np.cumsum(lengths[piece])])
            for row, begin, end in zip(piece.tolist(), offsets[:-1], offsets[1:], strict=True):
                np.copyto(buffer[begin:end], self.whole[self.starts[row] : self.starts[row + 1]])
            yield RaggedBatch(piece, buffer[: offsets[-1]], offsets, self.manifest.dtype)


def write_store(path: Path, manifest: StoreManifest, samples: Any, per_part: int) -> ActivationStore:
    """Write a store from an iterator of (hidden states by layer) a sample, and open it."""
    writer = create_or_open(path, manifest)
    numbered = enumerate(samples)
    while piece := list(itertools.islice(numbered, per_part)):
        with writer.part([f"s{number:04}" for number, _ in piece]) as part:
            for number, states in piece:
                values = states[manifest.layers[-1]]
                tokens = np.zeros((len(values), len(COLUMNS)), np.int32)
                tokens[:, 0] = tokens[:, 3] = np.arange(len(values))
                row = {"id": f"s{number:04}", "group": f"s{number:04}", "split": "train"}
                part.append([row], [Capture(states, values[-1], tokens)])
    writer.publish()
    return ActivationStore.open(path)


def token_store(path: Path, sizes: Sizes) -> ActivationStore:
    """Write and open samples of 60 to 256 random tokens, 158 on average."""
    rng = np.random.default_rng(0)
    n = sizes.samples
    lengths = rng.integers(60, 257, n)
    while lengths.sum() != sizes.tokens:
        row = rng.integers(n)
        lengths[row] = np.clip(lengths[row] + sizes.tokens - lengths.sum(), 60, 256)

    def samples() -> Iterator[dict[int, Any]]:
        for length in lengths:
            states = torch.from_numpy(rng.standard_normal((length, sizes.width), np.float32)).bfloat16()
            yield {5: states.view(torch.uint16).numpy()}

    manifest = StoreManifest({"made": "for bench_probes"}, (5,), sizes.width, "bfloat16", COLUMNS)
    return write_store(path, manifest, samples(), 250)


def labelled(store: ActivationStore) -> Examples:
    return Examples(store, np.arange(len(store)), np.random.default_rng(1).random(len(store)) < 0.6, LAYER)


def epoch_seconds(store: ActivationStore) -> float:
    """Fit some epochs; return the median seconds of one, without the first, in which chunks are checked."""
    ends: list[float] = []
    probe = make("attention-probe", {"epochs": EPOCHS, "patience": EPOCHS})
    probe.fit(labelled(store), seed=0, progress=lambda done, total: ends.append(time.perf_counter()))
    return statistics.median(after - before for before, after in itertools.pairwise(ends[:-1]))


def attention_figures(folder: Path, sizes: Sizes) -> dict[str, Figure]:
    store = token_store(folder / "tokens.zarr", sizes)
    memory = InMemory.open(store.path).hold(5)
    peer = probelab_epoch(memory)
    ours, in_memory, theirs = [], [], []
    for _ in range(ROUNDS):
        ours.append(epoch_seconds(store))
        in_memory.append(epoch_seconds(memory))
        theirs += [peer()] if peer else []
    over_memory = at_most(ratios(ours, in_memory), 1.10)
    over_peer = at_most(ratios(ours, theirs), 0.65) if peer else Figure(None, goal="<= 0.65")
    return {"attention_epoch_store_over_memory": over_memory, "attention_epoch_over_probelab": over_peer}


def probelab_epoch(memory: InMemory) -> Callable[[], float] | None:
    """Return what takes the seconds of one epoch of probelab's attention probe, or None where it is not installed."""
    try:
        from importlib.metadata import version

        from probelab.activations import Activations
        from probelab.probes.attention import Attention
    except ImportError:
        sys.stderr.write("no comparison with probelab: pip install probelab==0.1.0\n")
        return None
    if version("probelab") != "0.1.0":
        sys.stderr.write(f"no comparison with probelab {version('probelab')}: pip install probelab==0.1.0\n")
        return None
    tokens = torch.from_numpy(memory.whole).view(torch.bfloat16)
    data = Activations.from_flat(tokens, torch.from_numpy(memory.starts))
    labels = torch.from_numpy(labelled(memory).labels)

    def fit(epochs: int) -> None:
        fixed = {"batch_size": 64, "val_split": 0.15, "seed": 0, "device": "cpu", "cast": "float32"}
        Attention(n_epochs=epochs, patience=epochs, **fixed).fit(data, labels)

    def epoch() -> float:
        seconds = rounds({"one": lambda: fit(1), "three": lambda: fit(3)}, 1)
        return (seconds["three"][0] - seconds["one"][0]) / 2

    return epoch


def relope_figures(folder: Path, sizes: Sizes) -> dict[str, Figure]:
    """Time steps of one batch: forward, loss, backward, optimizer."""
    store, streams = streamed_store(folder / "steps.zarr", sizes)
    steps = {mode: step(store, streams, mode) for mode in ("cached", "truncated", "full")}
    contenders = {**steps, "cached": lambda: [steps["cached"]() for _ in range(5)]}
    rounds(contenders, 1)  # the first step of each allocates
    seconds = rounds(contenders)
    cached = [five / 5 for five in seconds["cached"]]
    return {
        "relope_step_full_over_cached": at_least(ratios(seconds["full"], cached), 20),
        "relope_step_truncated_over_cached": at_least(ratios(seconds["truncated"], cached), 10),
    }


def streamed_store(path: Path, sizes: Sizes) -> tuple[ActivationStore, Any]:
    """Return a store of one batch of a randomly initialised Llama, and what streams its prompts again."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from relope.extract.model.streams import Streams
    from relope.extract.recipe import save_block

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=sizes.hidden,
        intermediate_size=4 * sizes.hidden,
        num_hidden_layers=BLOCKS,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=1000,
        max_position_embeddings=1024,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    ids = torch.randint(0, 1000, (sizes.batch, sizes.length))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    backbone: Any = SimpleNamespace(
        model=model,
        blocks=model.get_decoder().layers,
        identity={"attention": "sdpa"},
        traits=SimpleNamespace(quantized=False, derives_positions=False, keeps_rope_deltas=False, rope_bound=None),
        inputs=lambda *_: inputs,
        to_device=dict,
    )
    states = model(**inputs, output_hidden_states=True).hidden_states
    layers = (LAYER - 1, LAYER)
    samples = ({layer: states[layer][row].numpy() for layer in layers} for row in range(sizes.batch))
    manifest = StoreManifest({"made": "steps"}, layers, sizes.hidden, "float32", COLUMNS)
    store = write_store(path, manifest, samples, sizes.batch)
    save_block(backbone, path, layers)
    return store, Streams(backbone, dict.fromkeys(store.samples["id"].to_list()))


def step(store: ActivationStore, streams: Any, mode: str) -> Any:
    """Return a function that makes one training step in a mode."""
    from relope.probes.parallel import World

    n = len(store)
    probe: Any = make("relope", {"mode": mode, "batch": n})
    examples = Examples(store, np.arange(n), np.arange(n) % 2 > 0, LAYER, streams)
    probe._build(examples, 0)
    probe.learned_.train()
    optimizer = torch.optim.AdamW(probe.learned_.parameters(), fused=True)
    noise, truth = torch.randn(n, probe.params.z), examples.labels

    def run() -> None:
        (batch,) = probe._batches(examples, np.arange(n), World())
        optimizer.zero_grad()
        probe._loss(batch, noise, truth).backward()
        optimizer.step()

    return run


def memory_figures(folder: Path, sizes: Sizes) -> dict[str, Figure]:
    """Fit in processes that may allocate a quarter of the store's token bytes."""
    peaks = [peak_bytes(folder / "tokens.zarr", sizes) for _ in range(1 if sizes == QUICK else ROUNDS)]
    return {"attention_fit_bytes_over_store_bytes": at_most([peak / sizes.store_bytes for peak in peaks], 0.25)}


def peak_bytes(path: Path, sizes: Sizes) -> float:
    """Return the most bytes that a fit held, infinite where what it may allocate was not enough."""
    allowed = sizes.store_bytes // 4 if sizes != QUICK else 1 << 30
    command = [sys.executable, __file__, "--fit-within", str(path), str(allowed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "allocate" not in done.stderr and "MemoryError" not in done.stderr:
        sys.exit(done.stderr)
    return float("inf") if done.returncode else float(done.stdout)


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


def measure(quick: bool) -> dict[str, Figure]:
    """Return name → figure."""
    torch.set_num_threads(1)
    sizes = QUICK if quick else Sizes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {**attention_figures(folder, sizes), **memory_figures(folder, sizes), **relope_figures(folder, sizes)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fit-within"]:
        fit_within(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(measure, __doc__)
