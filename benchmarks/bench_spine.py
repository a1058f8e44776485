"""What `relope demo` costs: ``python benchmarks/bench_spine.py [--json] [--quick]``, about six minutes.

Goals are for 2 cores without a GPU: the whole demo in 180 s and 3 GB, with at least 3,000 test questions; the tiny
benchmark extracted at 300 questions a second, answers included; `relope --help` in 0.4 s, `import relope` in
0.1 s, Python's own start left out. The demo itself runs once. A refusal that needs no weights takes 1.5 s at most, with
Python's start; each kind is timed.
"""

import functools
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import ROUNDS, Figure, at_least, at_most, main, rounds

IMPORT = "import time; begun = time.perf_counter(); import relope; print(time.perf_counter() - begun)"
REFUSALS = {
    "flag": "extract --modell tiny-vl",
    "value": "extract --model tiny-vl --dataset tiny --limit 0",
    "model": "extract --model tiny-v --dataset tiny",
    "dataset": "extract --model tiny-vl --dataset tinny",
    "layers": "extract --model tiny-vl --dataset tiny --layers 9",
    "split": "extract --model tiny-vl --dataset tiny --split dev",
    "device": "extract --model tiny-vl --dataset tiny --device gpu",
    "output": "extract --model tiny-vl --dataset tiny --limit 1 --out {folder}",
    "grader": "grade --store {store} --grader exakt",
    "method": "fit prob --store {store}",
    "store": "fit probe --store nowhere",
    "fit_split": "fit probe --store {store} --split dev",
    "layer": "fit probe --store {store} --layer 99",
    "setting": "fit probe --store {store} --set epoch=3",
    "grid": "sweep relope --store {store} --grid rank=2,4",
    "router": "predict --router nowhere/router --store {store}",
    "scores": "evaluate --store {store} --methods nope",
    "report": "compare nowhere nowhere",
    "scheme": "store push {store} s4://bucket/x",
    "pipeline": "run nothing",
}
"""Kind of mistake → a command that makes it; none needs a model's or a router's weights."""
RELOPE = [sys.executable, "-c", "from relope.cli import main; main()"]


def relope(command: str, folder: str) -> str:
    """Run a command in a folder and return what it printed to stdout."""
    return run([*RELOPE, *command.split()], folder)


def run(command: list[str], folder: str) -> str:
    """Return what a process printed to stdout; show its errors if it fails."""
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def refusals(folder: str) -> dict[str, Figure]:
    """Time each kind of refusal, beside a finished demo."""
    names = {"store": "demo/tiny-vl.zarr", "folder": "demo"}

    def refuse(command: str) -> None:
        words = command.format(**names).split()
        done = subprocess.run([*RELOPE, *words], cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode != 2:
            sys.exit(f"{command} was not refused: {done.stderr}")

    seconds = rounds({kind: functools.partial(refuse, command) for kind, command in REFUSALS.items()})
    return {f"refusal_{kind}_seconds": at_most(times, 1.5) for kind, times in seconds.items()}


def questions_per_second(folder: str, limit: str) -> list[float]:
    """Extract the test split into new stores, one a round; return the speed that each run reports."""
    speeds = []
    for number in range(ROUNDS):
        command = f"extract --model tiny-vl --dataset tiny --split test {limit} --json --out x{number}.zarr"
        facts: dict[str, Any] = json.loads(relope(command, folder))
        speeds.append(facts["computed"] / facts["seconds"])
    return speeds


def measure(quick: bool) -> dict[str, Figure]:
    """Return name → figure."""
    demo = f"demo {'--quick' if quick else ''} --out demo"
    with tempfile.TemporaryDirectory() as folder:
        relope("--help", folder)
        help_s = rounds({"help": lambda: relope("--help", folder)})["help"]
        import_s = [float(run([sys.executable, "-c", IMPORT], folder)) for _ in range(ROUNDS)]
        (demo_s,) = rounds({"demo": lambda: relope(demo, folder)}, 1)["demo"]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        again_s = rounds({"again": lambda: relope(demo, folder)})["again"]
        report = json.loads((Path(folder) / "demo" / "report.json").read_text())
        speeds = questions_per_second(folder, "--limit 100" if quick else "")
        refused = refusals(folder)
    return {
        "demo_seconds": at_most(demo_s, 180),
        "demo_peak_gib": at_most(peak, 3),
        "demo_test_questions": at_least(report["n"], 3000),
        "demo_again_seconds": at_most(again_s, 2),
        "extract_questions_per_second": at_least(speeds, 300),
        "help_seconds": at_most(help_s, 0.4),
        "import_seconds": at_most(import_s, 0.1),
        **refused,
    }


if __name__ == "__main__":
    main(measure, __doc__)
