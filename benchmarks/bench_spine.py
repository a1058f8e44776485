"""What `relope demo` costs: ``python benchmarks/bench_spine.py [--json]``.

Goals are for 2 cores without a GPU: the whole demo in 180 s and 3 GB, with at least 3,000 test questions; the tiny
benchmark extracted at 300 questions a second, answers included; `relope --help` in 0.4 s.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, at_least, at_most, main

RELOPE = [sys.executable, "-c", "from relope.cli import main; main()"]


def timed(arguments: list[str], folder: str) -> tuple[float, str]:
    """Return the seconds that a command took and what it printed to stdout."""
    begun = time.perf_counter()
    done = subprocess.run([*RELOPE, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, done.stdout


def measure() -> dict[str, Figure]:
    """Return name → figure."""
    with tempfile.TemporaryDirectory() as folder:
        timed(["--help"], folder)
        help_s = statistics.median(timed(["--help"], folder)[0] for _ in range(5))
        demo_s, _ = timed(["demo", "--out", "demo"], folder)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        again_s, _ = timed(["demo", "--out", "demo"], folder)
        report = json.loads((Path(folder) / "demo" / "report.json").read_text())
        extract = ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--split", "test", "--json", "--out", "x.zarr"]
        facts = json.loads(timed(extract, folder)[1])
    return {
        "demo_seconds": at_most(demo_s, 180),
        "demo_peak_gib": at_most(peak, 3),
        "demo_test_questions": at_least(report["n"], 3000),
        "demo_again_seconds": at_most(again_s, 20),
        "extract_questions_per_second": at_least(facts["computed"] / facts["seconds"], 300),
        "help_seconds": at_most(help_s, 0.4),
    }


if __name__ == "__main__":
    main(measure, __doc__)
