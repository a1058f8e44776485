"""What fits cost on a GPU: one step of relope, every method on many samples, and weights in 4 bits. For gpu.py."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from figures import Figure, at_most, shown
from torch import Tensor

from relope import registry
from relope.extract.model.backbone import Backbone, open_backbone
from relope.extract.model.streams import Streams
from relope.extract.recipe import save_block
from relope.probes.examples import Examples
from relope.probes.heads import seeded
from relope.probes.lora import Adapter, attach, target_shapes
from relope.probes.parallel import World
from relope.probes.protocol import make, method_class
from relope.probes.replay import BlockReplay, read_batch
from relope.store import ActivationStore, StoreManifest, create_or_open
from relope.types import Capture

EPOCHS = 3
COLUMNS = ("id", "kind", "type", "position_0", "position_1", "position_2", "position_3")
PART = 1000
WORDS = ("red", "star", "how", "many", "left", "which")


def labelled(store: ActivationStore, layer: int, device: str, streams: Streams | None = None) -> Examples:
    """Return every sample of a store with a coin's verdict."""
    n = len(store)
    verdicts = np.random.default_rng(1).permutation(n) % 2 > 0
    words = [WORDS[row % len(WORDS)] for row in range(n)]
    traces = [[word, word, "red"] for word in words]
    grades = pl.DataFrame(
        {
            "id": store.samples["id"],
            "parsed": words,
            "parse_status": ["parsed"] * n,
            "parsed_direct": traces,
            "parsed_chain": traces,
        }
    )
    return Examples(store, np.arange(n), verdicts, layer, streams, device, grades)


def step(
    store: ActivationStore, streams: Streams, layer: int, device: str, mode: str, *, held: bool = False
) -> Callable[[], None]:
    """Return what makes one training step of relope in a mode: read, forward, loss, backward, optimizer.

    Args:
        store: of one batch.
        streams: what its samples are sent through again.
        layer: l.
        device: where the step is made.
        mode: of relope.
        held: read the batch once, and leave it on the device.
    """
    n = len(store)
    probe: Any = make("relope", {"mode": mode, "batch": n})
    examples = labelled(store, layer, device, streams)
    probe._build(examples, 0)
    probe.learned_.train()
    optimizer = torch.optim.AdamW(probe.learned_.parameters(), fused=True)
    noise, truth, rows = torch.randn(n, probe.params.z), examples.labels, np.arange(n)
    kept = next(iter(probe._batches(examples, rows, World()))) if held else None

    def run() -> None:
        batch = kept or next(iter(probe._batches(examples, rows, World())))
        optimizer.zero_grad()
        probe._loss(batch, noise, truth).backward()
        optimizer.step()

    return run


@torch.no_grad()
def replay_error(store: ActivationStore, streams: Streams, layer: int, device: str) -> dict[str, float]:
    """Return how far block l of the cache, with adapters in it, is from the streamed forward, whole and last token."""
    replay = BlockReplay.open(store, layer, device)
    batch = read_batch(store, next(store.batches(layer - 1, size=len(store))), device, replay.dtype)
    generator = seeded(0)
    adapters = {name: Adapter(*shape, 16, 32.0, 0.0, generator) for name, shape in target_shapes(replay.block).items()}
    for adapter in adapters.values():
        torch.nn.init.normal_(adapter.up, std=0.02, generator=generator)
    block = attach(replay.block, {name: adapter.to(device) for name, adapter in adapters.items()})
    ids = store.samples["id"].to_list()
    wanted = streams.last_states(ids, block, layer, stop=True).float()
    seconds = {
        name: replay.last_states(batch, block, fast=fast) for name, fast in (("whole", False), ("last token", True))
    }
    return {name: float((states.float() - wanted).norm() / wanted.norm()) for name, states in seconds.items()}


def drawn_store(backbone: Backbone, path: Path, device: str, n: int, tokens: int) -> ActivationStore:
    """Write and open n samples of some tokens each, drawn on the device; with block l's weights."""
    layers, width = (backbone.default_layer - 1, backbone.default_layer), backbone.hidden_size
    identity: Any = {"stored_dtype": "bfloat16", "compute_dtype": "bfloat16", "generation": {"max_new_tokens": 4}}
    manifest = StoreManifest(
        identity, layers, width, "bfloat16", COLUMNS[: 3 + backbone.traits.position_rows], token_layers=layers[:1],
        tokens="lean",
    )  # fmt: skip
    writer, rng = create_or_open(path, manifest), np.random.default_rng(0)
    for start in range(0, n, PART):
        lengths = rng.integers(tokens // 2, tokens * 3 // 2 + 1, min(PART, n - start))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        drawn = torch.randn(int(offsets[-1]), width, device=device, dtype=torch.bfloat16)
        bits = drawn.cpu().view(torch.uint16).numpy()
        rows = [_row(f"s{start + row}", rng) for row in range(len(lengths))]
        with writer.part([row["id"] for row in rows]) as part:
            for row, (begin, end) in zip(rows, pairwise(offsets.tolist()), strict=True):
                part.append([row], [_capture(bits[begin:end], layers, len(manifest.token_columns))])
    writer.publish()
    save_block(backbone, path, layers)
    return ActivationStore.open(path)


def _row(name: str, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "id": name,
        "split": "train",
        "group": name,
        "question": " ".join(rng.choice(WORDS, 4)),
        "choices": [],
        "response": str(rng.choice(WORDS)),
        "logprobs": (-rng.exponential(size=3)).tolist(),
        "entropies": rng.exponential(size=3).tolist(),
        "p_true": float(rng.random()),
        "traces_direct": rng.choice(WORDS, 3).tolist(),
        "traces_chain": rng.choice(WORDS, 3).tolist(),
    }


def _capture(bits: npt.NDArray[Any], layers: tuple[int, int], n_columns: int) -> Capture:
    tokens = np.zeros((len(bits), n_columns), np.int32)
    tokens[:, 3:] = np.arange(len(bits))[:, None]
    return Capture({layers[0]: bits, layers[1]: bits[-1:]}, bits[-1], tokens)


def fit_all(backbone: Backbone, folder: Path, device: str, n: int, tokens: int) -> Iterator[dict[str, Figure]]:
    """Fit every method on n samples, and yield its seconds."""
    begun = time.perf_counter()
    store = drawn_store(backbone, folder / "fits.zarr", device, n, tokens)
    gb = int(store.index.n_tokens.sum()) * store.manifest.hidden_size * 2 / 1e9
    yield {f"s to write {n:,} samples, {gb:.1f} GB of tokens": shown(time.perf_counter() - begun)}
    with store:
        examples = labelled(store, backbone.default_layer, device)
        make("probe", {"epochs": 1}).fit(examples.take(np.arange(100)), seed=0)  # loads what is loaded once
        for name in registry.names("methods"):
            settings = {"epochs": EPOCHS} if "epochs" in method_class(name).Params.model_fields else {}
            begun = time.perf_counter()
            try:
                make(name, settings).fit(examples, seed=0)
            except Exception as error:  # noqa: BLE001 one method must not take the others with it
                yield {f"s to fit {name}: FAILED ({type(error).__name__}: {str(error)[:120]})": Figure(None, met=False)}
                continue
            note = f" ({EPOCHS} epochs)" if settings else ""
            yield {f"s to fit {name}{note}": shown(time.perf_counter() - begun)}


def four_bits(folder: Path, device: str) -> Iterator[dict[str, Figure]]:
    """Open a checkpoint of Qwen2.5-VL's class in bfloat16 and in 4 bits; yield what that saves and costs."""
    if importlib.util.find_spec("bitsandbytes") is None:
        yield {"4 bits (bitsandbytes is not installed)": Figure(None)}
        return
    from checkpoints import make as checkpoint

    from relope.extract.data.open import open_dataset
    from relope.extract.model.generate import answer_batch

    shape = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 16, "num_key_value_heads": 4}
    path = checkpoint("qwen2.5-vl", folder / "model", blocks=8, **shape, initializer_range=0.02)
    samples, routers, weights = open_dataset("tiny").load("test", 8), {}, {}
    for name in (None, "4bit"):
        before = torch.cuda.memory_allocated()
        backbone = open_backbone(str(path), device, "bfloat16", quantize=name)
        weights[name] = torch.cuda.memory_allocated() - before
        copies = answer_batch(backbone, backbone.inputs(samples), (3, 4), 4, "bfloat16").hidden
        routers[name] = torch.from_numpy(copies[4].numpy()).view(torch.bfloat16).float()
        del backbone
    cosine: Tensor = torch.nn.functional.cosine_similarity(routers[None], routers["4bit"], dim=1)
    yield {
        "4 bits: bytes of the weights over those in bfloat16": at_most(weights["4bit"] / weights[None], 0.5),
        "4 bits: cosine of states with those in bfloat16, median": shown(float(cosine.median())),
    }
