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
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from figures import Figure, machine, parser, shown
from gpu_extract import extract, sealing, states
from gpu_fits import fit_all, four_bits
from gpu_run import MINIATURE, Figures, Run, Sizes
from gpu_steps import early_exit, steps
from shapes import SHAPES, shaped

from relope.extract.model.backbone import Backbone

SECTIONS = ("states", "extract", "sealing", "steps", "exit", "fits", "quantized")


def fits(run: Run, backbone: Backbone) -> Iterator[Figures]:
    """Fit every method."""
    yield from fit_all(backbone, run.new_folder(), run.device, run.sizes.samples, run.sizes.tokens)


def quantized(run: Run, _: Backbone) -> Iterator[Figures]:
    """Open a checkpoint in 4 bits."""
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
