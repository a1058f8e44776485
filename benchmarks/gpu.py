"""What a GPU says: ``python benchmarks/gpu.py [--json] [--miniature] [--only SECTION…]``, eight minutes on one H100.

Backbones of the shapes of Qwen2.5-VL-7B, Gemma3-12B and Phi-4-multimodal, in bfloat16 with weights drawn on the device
(vision towers too), go through the code that real ones do. Every figure is printed when it is there; a section that
fails says why and leaves the others alone. Peers are measured in the same run, in rounds in which both take turns, the
device's queue empty at either end. ``--miniature`` runs the same on a CPU with six narrow blocks: no figure means
anything then.

- ``states``: what is captured against a truncated forward (blocks 1…l alone), by sdpa and flash-attention if installed.
- ``extract``: `extract` (capture and store included) over plain sorted `generate()`, and over the same with inputs that
  lie on the device already; the share of its time in which the model has nothing to do; peak memory over the model's.
- ``sealing``: bytes from the device to sealed parts, over the slower of a pinned copy and a plain write of as many.
- ``steps``: one training step of relope through all blocks and through blocks 1…l over the cached step, T = 512; the
  block replayed against the streamed forward.
- ``exit``: a prompt that is escalated at block l, its score included, over a whole prefill.
- ``fits``: every method on 20,000 samples of 64 tokens on average, three epochs where there are epochs.
- ``quantized``: 4-bit weights, where bitsandbytes is installed.
"""

import gc
import importlib.util
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from figures import ROUNDS, Figure, at_least, at_most, machine, parser, ratios, rounds, shown
from shapes import SHAPES, shaped
from torch import Tensor, nn

from relope.extract.batches import Batches
from relope.extract.data.open import open_dataset
from relope.extract.engines import local
from relope.extract.loop import run_units
from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import Answered, answer_batch
from relope.extract.model.overlap import HostCopy
from relope.extract.plan import make_plan
from relope.extract.recipe import make_manifest, save_block
from relope.spec import ExtractSpec
from relope.steps.extraction import extraction_of
from relope.store import ActivationStore, StoreManifest, create_or_open
from relope.types import Sample

Figures = dict[str, Figure]
SECTIONS = ("states", "extract", "sealing", "steps", "exit", "fits", "quantized")
ANSWER = 8
LETTERS = "bcdfghjkmpqvwxyz"


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        prompts: that the first shape extracts, half of them with an image.
        prompts_of_others: that the others do.
        longest: tokens of the longest.
        length: T of a training step and of an early exit.
        batch: samples of a training step.
        sealed: samples of T tokens that go to sealed parts in a round.
        samples: that methods are fitted on.
        tokens: of each, on average.
    """

    prompts: int = 48
    prompts_of_others: int = 24
    longest: int = 400
    length: int = 512
    batch: int = 16
    sealed: int = 192
    samples: int = 20_000
    tokens: int = 64


MINIATURE = Sizes(prompts=6, prompts_of_others=6, longest=60, length=48, batch=4, sealed=6, samples=120, tokens=6)


@dataclass(frozen=True)
class Run:
    """Where and how large."""

    device: str
    small: bool
    sizes: Sizes
    folder: Path

    @property
    def n_rounds(self) -> int:
        """Rounds of what is compared."""
        return 1 if self.small else ROUNDS

    def synced(self, run: Callable[[], object]) -> Callable[[], None]:
        """Return a function that begins and ends with nothing left to do on the device."""

        def timed() -> None:
            run()
            if self.device == "cuda":
                torch.cuda.synchronize()

        return timed

    def compare(self, contenders: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Return the seconds of each contender, one a round, after one that is not counted."""
        turns = {name: self.synced(run) for name, run in contenders.items()}
        rounds(turns, 1)
        return rounds(turns, self.n_rounds)

    def new_folder(self) -> Path:
        """Return an empty folder on the disk that is measured."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def prompts(n: int, longest: int, images: bool) -> list[Sample]:
    """Return prompts of 50 to ``longest`` letters, log-uniform; a random letter is about a token."""
    draw = random.Random(0)
    seen = [sample.images for sample in open_dataset("tiny").load("test", n)]
    made = []
    for number in range(n):
        letters = "".join(draw.choices(LETTERS, k=round(50 * (longest / 50) ** draw.random())))
        shown_ = seen[number] if images and number % 2 else ()
        made.append(Sample(f"s{number}", "bench", "train", letters, ("x",), images=shown_))
    return made


def of_length(backbone: Backbone, n: int, length: int) -> list[Sample]:
    """Return prompts without images of exactly ``length`` tokens."""
    draw, made = random.Random(1), []
    for number in range(n):
        letters = "".join(draw.choices(LETTERS, k=2 * length))
        made.append(Sample(f"s{number}", "bench", "train", letters, ("x",)))
        while (over := backbone.inputs(made[-1:])["input_ids"].shape[1] - length) > 0:
            made[-1] = replace(made[-1], question=made[-1].question[: -max(1, over)])
    return made


def relative(found: Tensor, wanted: Tensor) -> float:
    """Return the norm of a difference over that of what is wanted."""
    wanted = wanted.float()
    return float((found.float() - wanted).norm() / wanted.norm())


def layers_of(backbone: Backbone) -> tuple[int, int]:
    return backbone.default_layer - 1, backbone.default_layer


def manifest_of(backbone: Backbone) -> StoreManifest:
    layers = tuple(str(layer) for layer in layers_of(backbone))
    extraction = replace(extraction_of(ExtractSpec(model="tiny-vl", dataset="tiny")), asked_layers=layers)
    return make_manifest(backbone, extraction, local.open_engine(extraction, {}))


# --- states ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def truncated(backbone: Backbone, inputs: dict[str, Tensor], layer: int) -> Tensor:
    """Return ``[ΣT, H]``: what a model of blocks 1…l without a final norm gives, by a plain forward."""
    decoder: Any = backbone.decoder
    kept, found = (decoder.layers, decoder.norm), []
    decoder.layers, decoder.norm = decoder.layers[:layer], nn.Identity()
    hook = decoder.norm.register_forward_hook(lambda module, args, output: found.append(output))
    on_device = backbone.to_device(inputs)
    if not backbone.traits.derives_positions:
        on_device["position_ids"] = (on_device["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    try:
        backbone.model(**on_device, use_cache=False, logits_to_keep=1)
    finally:
        hook.remove()
        decoder.layers, decoder.norm = kept
    return found[0][on_device["attention_mask"].bool()]


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


# --- extract --------------------------------------------------------------------------------------------------------


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


# --- sealing --------------------------------------------------------------------------------------------------------


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


# --- steps ----------------------------------------------------------------------------------------------------------


def steps(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Train relope for a step in each mode, and replay block l."""
    from gpu_fits import replay_error, step

    from relope.extract.model.streams import Streams

    samples = of_length(backbone, run.sizes.batch, run.sizes.length)
    batched = replace(backbone, card=replace(backbone.card, batch_size=run.sizes.batch))
    out, _ = extracted(run, batched, samples, n_tokens=0)
    save_block(backbone, out, layers_of(backbone))
    streams = Streams(backbone, {sample.id: sample for sample in samples})
    with ActivationStore.open(out) as store:
        for name, error in replay_error(store, streams, backbone.default_layer, run.device).items():
            yield {f"{backbone.name}: block l replayed ({name}) off the streamed forward": at_most(error, 1e-2)}
        modes = {mode: step(store, streams, backbone.default_layer, run.device, mode) for mode in MODES}
        held = step(store, streams, backbone.default_layer, run.device, "cached", held=True)
        many = 10 if not run.small else 1
        took = run.compare(
            {
                **modes,
                "cached": lambda: [modes["cached"]() for _ in range(many)],
                "held": lambda: [held() for _ in range(many)],
            }
        )
    cached, kept = ([each / many for each in took[name]] for name in ("cached", "held"))
    yield {
        f"{backbone.name}: relope step, full over cached": at_least(ratios(took["full"], cached), 100),
        f"{backbone.name}: relope step, truncated over cached": at_least(ratios(took["truncated"], cached), 50),
        f"{backbone.name}: relope step, full over cached, its batch on the device": shown(ratios(took["full"], kept)),
        f"{backbone.name}: ms a step, cached": shown([each * 1e3 for each in cached]),
        f"{backbone.name}: ms a step, cached, its batch on the device": shown([each * 1e3 for each in kept]),
        f"{backbone.name}: ms a step, truncated": shown([each * 1e3 for each in took["truncated"]]),
        f"{backbone.name}: ms a step, full": shown([each * 1e3 for each in took["full"]]),
    }


MODES = ("cached", "truncated", "full")


# --- exit -----------------------------------------------------------------------------------------------------------


def early_exit(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Escalate prompts at block l."""
    from served import asked, drawn_router

    from relope.serve.local.prompts import collated, prompt_of
    from relope.serve.local.reading import read_prompts
    from relope.serve.local.scoring import Scorer

    layer, blocks = backbone.default_layer, len(backbone.blocks)
    asked_for = [asked(sample.question) for sample in of_length(backbone, 8, run.sizes.length)]
    ready = [prompt_of(backbone, query) for query in asked_for]
    inputs = {name: tensor.to(run.device) for name, tensor in collated(ready, 0).items()}
    scorer = Scorer(drawn_router("relope", backbone, layer), layer, backbone)

    @torch.inference_mode()
    def escalated() -> None:
        def decide(at: Any) -> list[int]:
            scorer.at_prompt(ready, at)
            return []

        read_prompts(backbone, inputs, layer, decide)

    @torch.inference_mode()
    def prefill() -> None:
        backbone.model.generate(**backbone.to_device(inputs), max_new_tokens=1, do_sample=False)

    took = run.compare({"escalated": escalated, "prefill": prefill})
    goal = round(layer / blocks + 0.05, 3)
    yield {
        f"{backbone.name}: escalated at block {layer} of {blocks}, over a prefill": at_most(
            ratios(took["escalated"], took["prefill"]), goal
        ),
        f"{backbone.name}: ms of a prefill, 8 x {run.sizes.length}": shown([each * 1e3 for each in took["prefill"]]),
    }


# --- fits, 4 bits ---------------------------------------------------------------------------------------------------


def fits(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Fit every method."""
    from gpu_fits import fit_all

    yield from fit_all(backbone, run.new_folder(), run.device, run.sizes.samples, run.sizes.tokens)


def quantized(run: Run, _: Backbone) -> Iterator[Figures]:
    """Open a checkpoint in 4 bits."""
    from gpu_fits import four_bits

    yield from four_bits(run.new_folder(), run.device)


OF = {
    "states": (states, SHAPES),
    "extract": (extract, SHAPES),
    "sealing": (sealing, SHAPES[:1]),
    "steps": (steps, SHAPES[:1]),
    "exit": (early_exit, SHAPES),
    "fits": (fits, SHAPES[:1]),
    "quantized": (quantized, SHAPES[:1]),
}
"""Section → its function, and the shapes that it is measured on."""


def measure(run: Run, sections: Sequence[str], shapes: Sequence[str], tell: Callable[[Figures], None]) -> None:
    """Measure shape by shape, telling every figure when it is there; what fails says why."""
    for name in shapes:
        wanted = [section for section in sections if name in OF[section][1]]
        if not wanted:
            continue
        begun = time.perf_counter()
        backbone = shaped(name, run.device, small=run.small)
        n = sum(each.numel() for each in backbone.model.parameters()) / 1e9
        tell({f"{name}: s to draw its {n:.2f} G weights": shown(time.perf_counter() - begun)})
        for section in wanted:
            begun = time.perf_counter()
            try:
                for figures in OF[section][0](run, backbone):
                    tell(figures)
            except Exception as error:  # noqa: BLE001 one section must not take the others with it
                traceback.print_exc()
                tell(
                    {f"{name}: {section} FAILED ({type(error).__name__}: {str(error)[:120]})": Figure(None, met=False)}
                )
            sys.stderr.write(f"   {section} of {name}: {time.perf_counter() - begun:.0f} s\n")
        del backbone
        gc.collect()
        if run.device == "cuda":
            torch.cuda.empty_cache()


def card() -> str:
    """Return what the figures were measured on."""
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{gpu}, torch {torch.__version__}, transformers {transformers.__version__}, {machine()}"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--miniature", action="store_true", help="tiny shapes, on a CPU: only to see that it runs")
    options.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run")
    options.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES, help="backbones to run them on")
    asked = options.parse_args()
    small = asked.miniature or asked.quick
    if not small and not torch.cuda.is_available():
        sys.exit("there is no CUDA device here; --miniature runs the same in small on the CPU")
    (sys.stderr if asked.json else sys.stdout).write(f"{card()}\n")
    measured: Figures = {}

    def tell(figures: Figures) -> None:
        for name, figure in figures.items():
            measured[name] = (
                replace(figure, goal=None, met=False if figure.met is False and figure.value is None else None)
                if small
                else figure
            )
            if not asked.json:
                sys.stdout.write(f"{measured[name].verdict:6} {name}: {measured[name]}\n")
                sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        device = "cpu" if small else "cuda"
        measure(Run(device, small, MINIATURE if small else Sizes(), Path(folder)), asked.only, asked.shapes, tell)
    if asked.json:
        sys.stdout.write(json.dumps({name: asdict(figure) for name, figure in measured.items()}, indent=2) + "\n")
    sys.exit(any(figure.met is False for figure in measured.values()))


if __name__ == "__main__":
    main()
