"""What extraction costs beside plain scripts: ``python benchmarks/bench_extract.py [--json]``, six minutes.

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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from figures import Figure, at_least, at_most, main

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from checkpoints import make

from relope.extract.batches import Batches
from relope.extract.data.open import open_dataset
from relope.extract.loop import run_units
from relope.extract.model.backbone import Backbone, open_backbone
from relope.extract.plan import make_plan
from relope.extract.recipe import make_manifest
from relope.spec import ExtractSpec
from relope.steps.extraction import extraction_of
from relope.store import create_or_open
from relope.types import Sample

MODELS = ("llama", "qwen2.5-vl")
SIZE = {"blocks": 10, "hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 4}
PROMPTS, BATCH, ANSWER = 250, 16, 8


def prompts(name: str) -> list[Sample]:
    """Return prompts of 50 to 400 tokens, many short and few long ones; a random letter is about a token."""
    draw = random.Random(0)
    images = [sample.images for sample in open_dataset("tiny").load("test", PROMPTS)]
    found = []
    for number in range(PROMPTS):
        seen = images[number] if name != "llama" and number % 2 else ()
        letters = "".join(draw.choices("bcdfghjkmpqvwxyz", k=round(50 * 8 ** draw.random()) - 20 * bool(seen) - 9))
        found.append(Sample(f"s{number}", "bench", "test", letters, ("x",), images=seen))
    return found


def plain(backbone: Backbone, samples: list[Sample], *, ordered: bool, states: Path | None = None) -> list[str]:
    """Answer with `generate()` as a script would, keeping the states of layers 4 and 5 if asked to."""
    batches = sorted(samples, key=lambda sample: len(sample.question)) if ordered else samples
    said = []
    for start in range(0, len(batches), BATCH):
        inputs = backbone.inputs(batches[start : start + BATCH])
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
            torch.save([out.hidden_states[0][layer] for layer in (4, 5)], states / f"{start}.pt")
    return said


def extract(backbone: Backbone, samples: list[Sample], folder: Path, n_tokens: int) -> float:
    """Extract into a new store; return the seconds that the model waited for data."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "x.zarr"
    spec = ExtractSpec(model="tiny-vl", dataset="tiny", layers=("4", "5"), max_new_tokens=n_tokens)
    manifest = make_manifest(backbone, extraction_of(spec))
    writer = create_or_open(out, manifest)
    units = make_plan(out / "plan.json", samples, set(), BATCH, backbone.hidden_size)
    batches = Batches(backbone, manifest.layers, n_tokens, manifest.dtype)
    waited = run_units(batches, writer, units, {sample.id: sample for sample in samples})
    writer.publish()
    return waited


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, and what it returned."""
    begun = time.perf_counter()
    found = call()
    return time.perf_counter() - begun, found


def times(name: str, folder: Path) -> dict[str, float]:
    """Time everything on one model in this process, the two that are compared most closely in turns."""
    backbone, samples = open_backbone(str(folder / name), "cpu", "float32"), prompts(name)
    plain(backbone, samples[:BATCH], ordered=True)
    extract(backbone, samples[:BATCH], folder, ANSWER)
    rounds = []
    for _ in range(2):
        script, _ = seconds(lambda: plain(backbone, samples, ordered=True))
        ours, waited = seconds(lambda: extract(backbone, samples, folder, ANSWER))
        rounds.append((ours, script, waited))
    usual, _ = seconds(lambda: plain(backbone, samples, ordered=False, states=folder))
    whole, _ = seconds(lambda: extract(backbone, samples, folder, 1))
    states, _ = seconds(lambda: extract(backbone, samples, folder, 0))
    ours, waited = min((ours, waited) for ours, _, waited in rounds)
    return {
        "ours": ours,
        "sorted": min(script for _, script, _ in rounds),
        "usual": usual,
        "whole": whole,
        "states": states,
        "waited": waited,
        "parameters": sum(p.numel() for p in backbone.model.parameters()),
    }


def memory(name: str, folder: Path, ours: bool) -> dict[str, float]:
    """Return the peak of this process after one pass, and the bytes of the largest batch's states."""
    backbone, samples = open_backbone(str(folder / name), "cpu", "float32"), prompts(name)
    samples = sorted(samples, key=lambda sample: len(sample.question))[-4 * BATCH :]
    longest = max(backbone.inputs([sample])["input_ids"].shape[1] for sample in samples)
    _ = extract(backbone, samples, folder, ANSWER) if ours else plain(backbone, samples, ordered=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak": peak, "states": BATCH * longest * backbone.hidden_size * 4 * 2}


def worker(what: str, name: str, folder: Path) -> dict[str, float]:
    """Do one part of the work in a process of its own."""
    command = [sys.executable, __file__, "--worker", what, name, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure() -> dict[str, Figure]:
    """Return name → figure."""
    figures = {}
    for name in MODELS:
        sys.stderr.write(f"{name}: about three minutes\n")
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            make(name, folder / name, **SIZE)
            took = worker("times", name, folder)
            script, ours = worker("memory-script", name, folder), worker("memory-ours", name, folder)
        allowed = 1.2 * ours["states"] + (64 << 20)
        figures |= {
            f"{name}_parameters_m": at_least(took["parameters"] / 1e6, 20),
            f"{name}_vs_sorted_generate": at_most(took["ours"] / took["sorted"], 1.05),
            f"{name}_vs_hidden_states_script": at_least(took["usual"] / took["ours"], 2),
            f"{name}_states_only_speedup": at_least(took["whole"] / took["states"], 1.3),
            f"{name}_samples_per_second": at_least(PROMPTS / took["ours"], 0),
            f"{name}_peak_over_allowed": at_most(max(0.0, ours["peak"] - script["peak"]) / allowed, 1),
            f"{name}_waiting_share": at_most(took["waited"] / took["ours"], 0.03),
        }
    return figures


if __name__ == "__main__":
    if "--worker" in sys.argv:
        what, name, folder = sys.argv[-3:]
        found = times(name, Path(folder)) if what == "times" else memory(name, Path(folder), what == "memory-ours")
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        main(measure, __doc__)
