"""What extraction costs beside plain scripts: ``python benchmarks/bench_extract.py [--json] [--quick]``, 20 minutes.

A randomly initialised Llama and Qwen2.5-VL of 20 M parameters or more answer 250 prompts of 50 to 400 tokens
(log-uniform, many short and few long; every second one with an image, for Qwen) on the CPU in float32, two layers
captured, batches of 16, answers of 8 tokens.

- ``vs_sorted_generate``: seconds of `extract` (capture and store included) over those of a plain script that sorts the
  prompts by length and calls `generate()`; ``vs_hidden_states_script``: how many times faster than the usual script,
  which takes the prompts as they come, asks for `output_hidden_states` and saves the two layers of every batch.
- ``states_only_speedup``: `--max-new-tokens 0` at l = L/2 over the same with the full depth (one token).
- ``peak_over_allowed``: the most memory that `extract` takes more than the sorted script (processes of their own, the
  resident set's maximum), over 1.2 times one batch's states plus 64 MB.
- ``waiting_share``: the share of the time in which the model waits for data.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from figures import ROUNDS, Figure, at_least, at_most, main, ratios, rounds, shown

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from checkpoints import make

from relope.extract.batches import Batches
from relope.extract.data.open import open_dataset
from relope.extract.engines import local
from relope.extract.loop import run_units
from relope.extract.model.backbone import Backbone, open_backbone
from relope.extract.plan import make_plan
from relope.extract.recipe import make_manifest
from relope.spec import ExtractSpec
from relope.steps.extraction import extraction_of
from relope.store import create_or_open
from relope.types import Sample

MODELS = ("llama", "qwen2.5-vl")
ANSWER = 8
LAYERS = (4, 5)


@dataclass(frozen=True)
class Sizes:
    """How many prompts, in batches of how many, to a model of what width."""

    prompts: int = 250
    batch: int = 16
    hidden: int = 512
    heads: int = 8


QUICK = Sizes(prompts=8, batch=2, hidden=64, heads=4)


def prompts(name: str, n: int) -> list[Sample]:
    """Return prompts of 50 to 400 tokens, many short and few long ones; a random letter is about a token."""
    draw = random.Random(0)
    images = [sample.images for sample in open_dataset("tiny").load("test", n)]
    samples = []
    for number in range(n):
        seen = images[number] if name != "llama" and number % 2 else ()
        letters = "".join(draw.choices("bcdfghjkmpqvwxyz", k=round(50 * 8 ** draw.random()) - 20 * bool(seen) - 9))
        samples.append(Sample(f"s{number}", "bench", "test", letters, ("x",), images=seen))
    return samples


def by_length(samples: list[Sample]) -> list[Sample]:
    """Sort prompts as a careful script would."""
    return sorted(samples, key=lambda sample: len(sample.question))


def plain(backbone: Backbone, samples: list[Sample], batch: int, states: Path | None = None) -> list[str]:
    """Answer with `generate()` as a script would, keeping the states of two layers if asked to."""
    said = []
    for start in range(0, len(samples), batch):
        inputs = backbone.inputs(samples[start : start + batch])
        with torch.inference_mode():
            out = backbone.model.generate(
                **inputs,
                max_new_tokens=ANSWER,
                do_sample=False,
                return_dict_in_generate=True,
                output_hidden_states=states is not None,
            )
        said += backbone.tokenizer.batch_decode(out.sequences[:, inputs["input_ids"].shape[1] :])
        if states is not None:
            torch.save([out.hidden_states[0][layer] for layer in LAYERS], states / f"{start}.pt")
    return said


def extract(backbone: Backbone, samples: list[Sample], batch: int, folder: Path, n_tokens: int) -> float:
    """Extract into a new store; return the seconds that the model waited for data."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "x.zarr"
    layers = tuple(str(layer) for layer in LAYERS)
    spec = ExtractSpec(model="tiny-vl", dataset="tiny", layers=layers, max_new_tokens=n_tokens)
    extraction = extraction_of(spec)
    manifest = make_manifest(backbone, extraction, local.open_engine(extraction, {}))
    writer = create_or_open(out, manifest)
    units = make_plan(out / "plan.json", samples, set(), batch, backbone.hidden_size)
    batches = Batches(backbone, manifest.layers, n_tokens, manifest.dtype)
    waited = run_units(batches, writer, units, {sample.id: sample for sample in samples})
    writer.publish()
    return waited


def times(name: str, folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Time everything on one model in this process, in turns; seconds, one a round."""
    backbone, samples = open_backbone(str(folder / name), "cpu", "float32"), prompts(name, sizes.prompts)
    batch, ordered = sizes.batch, by_length(samples)
    plain(backbone, samples[:batch], batch)
    extract(backbone, samples[:batch], batch, folder, ANSWER)
    waited: list[float] = []
    seconds = rounds(
        {
            "sorted": lambda: plain(backbone, ordered, batch),
            "ours": lambda: waited.append(extract(backbone, samples, batch, folder, ANSWER)),
            "usual": lambda: plain(backbone, samples, batch, states=folder),
            "whole": lambda: extract(backbone, samples, batch, folder, 1),
            "states": lambda: extract(backbone, samples, batch, folder, 0),
        }
    )
    return {**seconds, "waited": waited, "parameters": sum(each.numel() for each in backbone.model.parameters())}


def memory(name: str, folder: Path, sizes: Sizes, ours: bool) -> dict[str, Any]:
    """Return the peak of this process after one pass, and the bytes of the largest batch's states."""
    backbone, samples = open_backbone(str(folder / name), "cpu", "float32"), prompts(name, sizes.prompts)
    longest, batch = by_length(samples)[-4 * sizes.batch :], sizes.batch
    n_tokens = max(backbone.inputs([sample])["input_ids"].shape[1] for sample in longest)
    _ = extract(backbone, longest, batch, folder, ANSWER) if ours else plain(backbone, longest, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak": peak, "states": batch * n_tokens * backbone.hidden_size * 4 * len(LAYERS)}


def worker(what: str, name: str, folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Do one part of the work in a process of its own."""
    command = [sys.executable, __file__, "--worker", what, name, str(folder), json.dumps(asdict(sizes))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peak_over_allowed(name: str, folder: Path, sizes: Sizes) -> float:
    """Return the memory that `extract` takes more than the sorted script, over what it may."""
    script, ours = worker("memory-script", name, folder, sizes), worker("memory-ours", name, folder, sizes)
    return max(0.0, ours["peak"] - script["peak"]) / (1.2 * ours["states"] + (64 << 20))


def measure(quick: bool) -> dict[str, Figure]:
    """Return name → figure."""
    sizes, figures = QUICK if quick else Sizes(), {}
    for name in MODELS:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            shape = {"num_attention_heads": sizes.heads, "num_key_value_heads": sizes.heads // 2}
            make(name, folder / name, blocks=10, hidden_size=sizes.hidden, intermediate_size=2 * sizes.hidden, **shape)
            took = worker("times", name, folder, sizes)
            peaks = [peak_over_allowed(name, folder, sizes) for _ in range(1 if quick else ROUNDS)]
        ours = took["ours"]
        figures |= {
            f"{name}_parameters_m": at_least(took["parameters"] / 1e6, 20),
            f"{name}_vs_sorted_generate": at_most(ratios(ours, took["sorted"]), 1.05),
            f"{name}_vs_hidden_states_script": at_least(ratios(took["usual"], ours), 2),
            f"{name}_states_only_speedup": at_least(ratios(took["whole"], took["states"]), 1.3),
            f"{name}_samples_per_second": shown([sizes.prompts / seconds for seconds in ours]),
            f"{name}_peak_over_allowed": at_most(peaks, 1),
            f"{name}_waiting_share": at_most(ratios(took["waited"], ours), 0.03),
        }
    return figures


def main_of_worker(what: str, name: str, folder: str, sizes: str) -> None:
    """Print what one worker measured."""
    shared = name, Path(folder), Sizes(**json.loads(sizes))
    facts = times(*shared) if what == "times" else memory(*shared, ours=what == "memory-ours")
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    if "--worker" in sys.argv:
        main_of_worker(*sys.argv[-4:])
    else:
        main(measure, __doc__)
