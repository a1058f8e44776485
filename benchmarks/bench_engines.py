"""What engines of extraction take on one machine: ``VLLM_PYTHON=PATH python benchmarks/bench_engines.py [--quick]``.

The questions of the embedded benchmark, float32 on a CPU, else bfloat16, in batches of 64, by ``local`` and by
``vllm``: states only, answers of at most 8 and of at most 128 tokens, and 8 traces of at most 8 tokens in both styles.
The embedded model ends its answers after one to three tokens; ``BENCH_MODEL=NAME`` takes one that says more. Seconds
are those of computing and sealing; loading a model or a server is told apart. Every case of every round starts a
server of its own, whose cache knows none of its prompts; so there are three rounds, whose least and largest ratio hold
the true median in three of four runs.

- ``<what>_local``, ``<what>_vllm``: samples a second.
- ``<what>_vllm_over_local``: their ratio, round by round.
- ``<engine>_start_s``: seconds before the first sample is computed, and after the last.

Without ``VLLM_PYTHON`` vLLM's figures are not measured.
"""

import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from figures import Figure, main, ratios, shown

from relope import steps
from relope.spec import ExtractSpec

ROUNDS = 3
SAMPLES = 512

CASES: dict[str, dict[str, object]] = {
    "states_only": {"max_new_tokens": 0},
    "answers_of_8": {"max_new_tokens": 8},
    "answers_of_128": {"max_new_tokens": 128},
    "traces_8": {"max_new_tokens": 8, "samples": 8, "trace_tokens": 8},
}


def run(engine: dict[str, object], case: dict[str, object], n: int, folder: Path) -> tuple[float, float]:
    """Return samples a second, and the seconds of the run that were not spent on them."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "x.zarr"
    asked = {"model": os.environ.get("BENCH_MODEL", "tiny-vl"), "dataset": "tiny", "split": ("test",), "limit": n}
    begun = time.perf_counter()
    facts = steps.run(ExtractSpec(**{**asked, **engine, **case, "batch_size": 64, "out": out})).facts
    return n / facts["seconds"], time.perf_counter() - begun - facts["seconds"]


def measure(quick: bool) -> dict[str, Figure]:
    """Return name → figure."""
    python = os.environ.get("VLLM_PYTHON", "")
    engines: dict[str, dict[str, object]] = {"local": {"engine": "local"}}
    if python:
        # On a CPU vLLM would take 92 % of the memory, of which this process has some.
        less = () if torch.cuda.is_available() else ("--kv-cache-memory-bytes=1073741824",)
        engines["vllm"] = {"engine": "vllm", "vllm_python": python, "vllm_argument": less}
    speeds, apart = defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory() as made:
        for _ in range(1 if quick else ROUNDS):
            for what, case in CASES.items():
                for name, engine in engines.items():
                    speed, rest = run(engine, case, 64 if quick else SAMPLES, Path(made))
                    speeds[f"{what}_{name}"].append(speed)
                    apart[f"{name}_start_s"].append(rest)
    figures = {name: shown(values) for name, values in {**speeds, **apart}.items()}
    for what in CASES:
        figures[f"{what}_vllm"] = figures.get(f"{what}_vllm", Figure(None))
        if python:
            figures[f"{what}_vllm_over_local"] = shown(ratios(speeds[f"{what}_vllm"], speeds[f"{what}_local"]))
    return figures


if __name__ == "__main__":
    main(measure, __doc__)
