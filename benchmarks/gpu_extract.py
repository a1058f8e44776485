"""What extraction costs on a GPU: its states, its time beside plain scripts, and its way to the disk. For gpu.py."""

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from figures import Figure, at_least, at_most, ratios, shown
from gpu_run import ANSWER, Figures, Run, layers_of, manifest_of, prompts, relative
from shapes import SHAPES
from torch import Tensor, nn

from relope.extract.batches import Batches
from relope.extract.loop import run_units
from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import Answered, answer_batch
from relope.extract.model.overlap import HostCopy
from relope.extract.plan import make_plan
from relope.store import create_or_open
from relope.types import Sample


@torch.inference_mode()
def truncated(backbone: Backbone, inputs: dict[str, Tensor], layer: int) -> Tensor:
    """Return ``[ΣT, H]``: what a model of blocks 1…l without a final norm gives, by a plain forward."""
    decoder: Any = backbone.decoder
    kept, states = (decoder.layers, decoder.norm), []
    decoder.layers, decoder.norm = decoder.layers[:layer], nn.Identity()
    hook = decoder.norm.register_forward_hook(lambda module, args, output: states.append(output))
    on_device = backbone.to_device(inputs)
    if not backbone.traits.derives_positions:
        on_device["position_ids"] = (on_device["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    try:
        backbone.model(**on_device, use_cache=False, logits_to_keep=1)
    finally:
        hook.remove()
        decoder.layers, decoder.norm = kept
    return states[0][on_device["attention_mask"].bool()]


def states(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Hold captured states against a truncated forward."""
    inputs = backbone.inputs(prompts(6, run.sizes.longest, images=True))
    wanted = {layer: truncated(backbone, inputs, layer) for layer in layers_of(backbone)}
    flash = importlib.util.find_spec("flash_attn") is not None
    for attention in ("sdpa", *(["flash_attention_2"] if flash else [])):
        backbone.model.set_attn_implementation(attention)
        copies = answer_batch(backbone, inputs, layers_of(backbone), ANSWER, "bfloat16").hidden
        worst = max(relative(_bfloat16(copy.numpy()).to(run.device), wanted[layer]) for layer, copy in copies.items())
        yield {f"{backbone.name}: captured states, {attention}, off a truncated forward": at_most(worst, 1e-2)}
    backbone.model.set_attn_implementation("sdpa")
    if not flash:
        yield {f"{backbone.name}: flash-attention (not installed)": Figure(None)}


def _bfloat16(bits: Any) -> Tensor:
    return torch.from_numpy(bits).view(torch.bfloat16)


class Watched(Batches):
    """Batches that note how long the model had nothing to do: from the end of a batch to the begin of the next."""

    busy: float = 0.0

    def answer(self, samples: Any, inputs: Any) -> Any:
        begun = time.perf_counter()
        pieces = list(super().answer(samples, inputs))
        self.busy += time.perf_counter() - begun
        return iter(pieces)


def extracted(run: Run, backbone: Backbone, samples: list[Sample], n_tokens: int = ANSWER) -> tuple[Path, Watched]:
    """Extract into a new store, in the batches of the model's card."""
    out, manifest = run.new_folder() / "x.zarr", manifest_of(backbone)
    writer = create_or_open(out, manifest)
    units = make_plan(out / "plan.json", samples, set(), backbone.card.batch_size, backbone.hidden_size)
    batches = Watched(backbone, manifest.layers, n_tokens, manifest.dtype)
    run_units(batches, writer, units, {sample.id: sample for sample in samples})
    writer.publish()
    return out, batches


@torch.inference_mode()
def generated(backbone: Backbone, inputs: dict[str, Tensor]) -> None:
    backbone.model.generate(**inputs, max_new_tokens=ANSWER, do_sample=False).tolist()


def extract(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Time extraction beside plain scripts, and weigh it."""
    n = run.sizes.prompts if backbone.name == SHAPES[0] else run.sizes.prompts_of_others
    samples = prompts(n, run.sizes.longest, images=True)
    ordered, size = (
        sorted(samples, key=lambda sample: (len(sample.images), len(sample.question))),
        backbone.card.batch_size,
    )
    cut = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    ready = [backbone.to_device(backbone.inputs(batch)) for batch in cut]
    seconds: list[float] = []
    idle: list[float] = []

    def ours() -> None:
        begun = time.perf_counter()
        out, batches = extracted(run, backbone, samples)
        seconds.append(time.perf_counter() - begun)
        idle.append(1 - batches.busy / seconds[-1])
        shutil.rmtree(out.parent)

    took = run.compare(
        {
            "script": lambda: [generated(backbone, backbone.to_device(backbone.inputs(batch))) for batch in cut],
            "ready": lambda: [generated(backbone, batch) for batch in ready],
            "ours": ours,
        }
    )
    yield {
        f"{backbone.name}: extract over a sorted generate() script": at_most(
            ratios(took["ours"], took["script"]), 1.05
        ),
        f"{backbone.name}: extract over generate() alone, inputs on the device": shown(
            ratios(took["ours"], took["ready"])
        ),
        f"{backbone.name}: prompts/s": shown([len(samples) / each for each in took["ours"]]),
        f"{backbone.name}: share of the time without work for the model": at_most(idle[1:], 0.03),
    }
    if run.device == "cuda":
        yield _memory(run, backbone, samples, ready)


def _memory(run: Run, backbone: Backbone, samples: list[Sample], ready: list[dict[str, Tensor]]) -> Figures:
    peaks = []
    for contender in (
        lambda: extracted(run, backbone, samples),
        lambda: [generated(backbone, batch) for batch in ready],
    ):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        contender()
        peaks.append((torch.cuda.max_memory_allocated() - before) / 2**30)
    return {
        f"{backbone.name}: GiB over the model's {before / 2**30:.1f}, extract": shown(peaks[0]),
        f"{backbone.name}: GiB over the model's, generate() alone": shown(peaks[1]),
    }


class Still:
    """Stands for `Batches`: answers at once with states that lie on the device."""

    text_only = True

    def __init__(self, backbone: Backbone, size: int, length: int, device: str) -> None:
        self.backbone = backbone
        width, columns = backbone.hidden_size, len(manifest_of(backbone).token_columns)
        self.lengths = [length] * size
        self.states = {
            layer: torch.randn(size * length, width, device=device, dtype=torch.bfloat16)
            for layer in layers_of(backbone)
        }
        self.answers = torch.randn(size, width, device=device, dtype=torch.bfloat16)
        self.tokens = torch.zeros(size * length, columns, dtype=torch.int32, device=device)

    def prepare(self, samples: Any) -> dict[str, Tensor]:
        return {}

    def answer(self, samples: Any, inputs: Any) -> Iterator[tuple[Any, Answered]]:
        n, n_tokens = len(samples), len(samples) * self.lengths[0]
        copies = {layer: HostCopy(states[:n_tokens]) for layer, states in self.states.items()}
        empty = [HostCopy(torch.zeros(0, n)) for _ in range(4)]
        tokens, answers = HostCopy(self.tokens[:n_tokens]), HostCopy(self.answers[:n])
        yield samples, Answered(self.lengths[:n], copies, answers, tokens, empty)


def sealing(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Move states from the device to sealed parts, without a model."""
    sizes, size = run.sizes, backbone.card.batch_size if not run.small else 2
    still, manifest = Still(backbone, size, sizes.length, run.device), manifest_of(backbone)
    samples = [Sample(f"s{number}", "bench", "train", "?", ("x",)) for number in range(sizes.sealed // size * size)]
    n_bytes = len(samples) * sizes.length * backbone.hidden_size * 2 * 2
    block = os.urandom(8 << 20)

    def ours() -> None:
        out = run.new_folder() / "x.zarr"
        writer = create_or_open(out, manifest)
        units = make_plan(out / "plan.json", samples, set(), size, backbone.hidden_size)
        batches: Any = still
        run_units(batches, writer, units, {sample.id: sample for sample in samples})
        shutil.rmtree(out.parent)

    def disk() -> None:
        path = run.new_folder() / "plain"
        with path.open("wb", buffering=0) as file:
            for _ in range(max(1, n_bytes // len(block))):
                file.write(block)
            os.fsync(file.fileno())
        shutil.rmtree(path.parent)

    def copy() -> None:
        for _ in range(len(samples) // size):
            for states_ in still.states.values():
                HostCopy(states_).numpy()

    took = run.compare({"ours": ours, "disk": disk, "copy": copy})
    slower = [max(pair) for pair in zip(took["disk"], took["copy"], strict=True)]
    yield {
        "device to sealed parts, of the slower of copy and disk": at_least(ratios(slower, took["ours"]), 0.8),
        **{
            f"GB/s, {name}": shown([n_bytes / each / 1e9 for each in took[key]])
            for name, key in (("device to sealed parts", "ours"), ("plain write", "disk"), ("pinned copy", "copy"))
        },
    }
