"""What `relope demo` costs: ``python benchmarks/bench_spine.py [--json]``.

Goals are for 2 cores without a GPU: the whole demo in 180 s and 3 GB, with at least 3,000 test questions; the tiny
benchmark extracted at 300 questions a second, answers included; `relope --help` in 0.4 s.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RELOPE = [sys.executable, "-c", "from relope.cli import main; main()"]


def timed(arguments: list[str], folder: str) -> tuple[float, str]:
    """Return the seconds that a command took and what it printed to stdout."""
    begun = time.perf_counter()
    done = subprocess.run([*RELOPE, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, done.stdout


def measure() -> dict[str, tuple[float, str, bool]]:
    """Return name → (value, goal, met)."""
    with tempfile.TemporaryDirectory() as folder:
        timed(["--help"], folder)
        help_s = statistics.median(timed(["--help"], folder)[0] for _ in range(5))
        demo_s, _ = timed(["demo", "--out", "demo"], folder)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        again_s, _ = timed(["demo", "--out", "demo"], folder)
        report = json.loads((Path(folder) / "demo" / "report.json").read_text())
        extract = ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--split", "test", "--json", "--out", "x.zarr"]
        facts = json.loads(timed(extract, folder)[1])
    rate = facts["computed"] / facts["seconds"]
    return {
        "demo_seconds": (demo_s, "<= 180", demo_s <= 180),
        "demo_peak_gib": (peak, "<= 3", peak <= 3),
        "demo_test_questions": (report["n"], ">= 3000", report["n"] >= 3000),
        "demo_again_seconds": (again_s, "< demo_seconds", again_s < demo_s),
        "extract_questions_per_second": (rate, ">= 300", rate >= 300),
        "help_seconds": (help_s, "<= 0.4", help_s <= 0.4),
    }


def main() -> int:
    """Print the figures; exit with 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure()
    if options.json:
        shown = {name: {"value": value, "goal": goal, "met": met} for name, (value, goal, met) in found.items()}
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        sys.stdout.write(f"{os.cpu_count()} cores\n")
        for name, (value, goal, met) in found.items():
            sys.stdout.write(f"{'met   ' if met else 'MISSED'} {name}: {value:.2f} (goal {goal})\n")
    return 0 if all(met for _, _, met in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
