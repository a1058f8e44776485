"""What more than one process is worth: ``python benchmarks/bench_scale.py [--json] [--quick]``.

The embedded model answers the embedded benchmark on one thread a process, each run first in parts of 64 samples, which
is one batch, then in parts of the size that a run has by itself (1,024 of a model this small). Counted are the seconds
between one sealed part and the next: loading counts nowhere. In every round, in turn:

- ``two_over_one``: parts a second of two processes over those of one, as a share of what two processes of this machine
  do of one's plain matrix products in the same round.
- ``devices_overhead``, ``ray_overhead``: seconds a part of one worker over those of the loop in one process, less one.
- ``devices_overhead_64``, ``ray_overhead_64``: the same in parts of 64 samples, which nobody has; shown without a goal.
- ``makespan_64``: 10,000 parts on 64 workers that fail, by discrete events: the scheduler's rules, part times and the
  time to start drawn from those measured here, a failure every 100 parts of a worker on average. Over the time that
  workers of that availability need at least: all parts, nothing lost, nobody idle. A worker's further parts have not
  begun when it fails, so they go back as they were.
"""

import heapq
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from figures import Figure, at_least, at_most, main, shown

from relope.cluster.pool import pause_s
from relope.extract.plan import PART_SAMPLES

RUN = """
import json, sys, time
from relope import steps
from relope.extract import plan
from relope.spec import build
out, (n_small, small, n_large, large), settings = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
make = plan.make_plan

def small_first(path, samples, *more):
    plan.PART_SAMPLES = small
    make(path, samples[: n_small * small], *more)
    plan.PART_SAMPLES = large
    return make(path, samples, *more)

plan.make_plan = small_first
limit = n_small * small + n_large * large
fields = {"model": "tiny-vl", "dataset": "tiny", "split": "train", "limit": limit, "thumbnails": False}
begun = time.time()
steps.run(build("extract", {**fields, **settings, "out": out}))
print(json.dumps(begun))
"""


@dataclass(frozen=True)
class Sizes:
    """How much is computed, and how often.

    Attributes:
        large: samples in a part of the size that users have.
        n_large: such parts of each process.
        small: samples in a small part.
        n_small: such parts, before the others.
        rounds: of all contenders.
        product: rows of the matrices that are multiplied.
        products: how often.
    """

    large: int = PART_SAMPLES
    n_large: int = 2
    small: int = 64
    n_small: int = 10
    rounds: int = 5
    product: int = 1024
    products: int = 60


QUICK = Sizes(large=128, rounds=5, n_small=6, product=256, products=400)
LOOP: dict[str, object] = {}
ONE, TWO = {"devices": "cpu"}, {"devices": "cpu,cpu"}
RAY = {"engine": "ray", "workers": 1}
N_WORKERS, N_PARTS, PARTS_A_FAILURE, RUNS = 64, 10_000, 100, 5


@dataclass(frozen=True)
class Timed:
    """One run, in seconds.

    Attributes:
        start_s: until the first part.
        small_s: from one small part to the next.
        large_s: from one large part to the next, of all processes together: the mean.
    """

    start_s: float
    small_s: list[float]
    large_s: float


def timed(settings: dict[str, object], n_workers: int, sizes: Sizes) -> Timed:
    """Extract into a new store and return when its parts were sealed."""
    with tempfile.TemporaryDirectory() as folder:
        out, parts = Path(folder) / "x.zarr", [sizes.n_small, sizes.small, sizes.n_large * n_workers, sizes.large]
        command = [sys.executable, "-c", RUN, str(out), json.dumps(parts), json.dumps(settings)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        sealed = sorted(path.stat().st_mtime for path in out.glob("parts/[0-9a-f]*/COMMIT.json"))
    small, large = sealed[1 : sizes.n_small], sealed[sizes.n_small - 1 :]
    # Processes that go in step seal together: from the last of one step to the last of another are whole steps.
    first = 0 if n_workers == 1 else n_workers
    each = (large[-1] - large[first]) / (len(large) - 1 - first)
    gaps = [later - earlier for earlier, later in pairwise(small)]
    return Timed(sealed[0] - json.loads(said.splitlines()[-1]), gaps, each)


def multiply(size: int, times: int, channel: "multiprocessing.Queue[float]", ready: "multiprocessing.Barrier") -> None:
    """Multiply matrices on one thread and tell the seconds."""
    import torch

    torch.set_num_threads(1)
    matrix = torch.randn(size, size)
    ready.wait()
    begun = time.perf_counter()
    for _ in range(times):
        matrix @ matrix
    channel.put(time.perf_counter() - begun)


def machine(sizes: Sizes) -> float:
    """Return what two processes of this machine do of one's matrix products: 2 where they do not hinder each other."""
    context = multiprocessing.get_context("spawn")

    def slowest(n: int) -> float:
        channel, ready = context.Queue(), context.Barrier(n)
        arguments = (sizes.product, sizes.products, channel, ready)
        running = [context.Process(target=multiply, args=arguments) for _ in range(n)]
        for process in running:
            process.start()
        seconds = [channel.get() for _ in running]
        for process in running:
            process.join()
        return max(seconds)

    return 2 * slowest(1) / slowest(2)


def makespan(part_s: Sequence[float], start_s: float, seed: int) -> float:
    """Return the makespan of many parts on many workers that fail, over the least that it could be.

    Args:
        part_s: what part times are drawn from.
        start_s: from the start of a worker until it computes.
        seed: of the draws.
    """
    draw = random.Random(seed)
    lengths = [draw.choice(part_s) for _ in range(N_PARTS)]
    between = PARTS_A_FAILURE * mean(part_s)
    waiting, deaths, fails = deque(lengths), [0] * N_WORKERS, [draw.expovariate(1 / between) for _ in range(N_WORKERS)]
    free = [(start_s, worker) for worker in range(N_WORKERS)]
    heapq.heapify(free)
    pending: list[tuple[float, float]] = []  # when a part is put back, and its length
    end = 0.0
    while waiting or pending:
        now, worker = heapq.heappop(free)
        while pending and pending[0][0] <= now:
            waiting.appendleft(heapq.heappop(pending)[1])
        if not waiting:
            heapq.heappush(free, (pending[0][0], worker))
            continue
        length = waiting.popleft()
        if fails[worker] < now + length:
            died = max(now, fails[worker])
            heapq.heappush(pending, (died, length))
            back = died + pause_s(deaths[worker]) + start_s
            deaths[worker] += 1
            fails[worker] = back + draw.expovariate(1 / between)
            heapq.heappush(free, (back, worker))
        else:
            deaths[worker], end = 0, max(end, now + length)
            heapq.heappush(free, (now + length, worker))
    availability = between / (between + start_s + pause_s(0))
    return end / (start_s + sum(lengths) / N_WORKERS / availability)


def measure(quick: bool) -> dict[str, Figure]:
    """Return every figure."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sizes = QUICK if quick else Sizes()
    scaling, large, small, parts, starts = [], [[], []], [[], []], [], []  # type: ignore[var-annotated]
    for _ in range(sizes.rounds):
        loop, one = timed(LOOP, 1, sizes), timed(ONE, 1, sizes)
        two, by_ray = timed(TWO, 2, sizes), timed(RAY, 1, sizes)
        scaling.append(one.large_s / two.large_s / machine(sizes))
        for number, other in enumerate((one, by_ray)):
            large[number].append(other.large_s / loop.large_s - 1)
            small[number].append(median(other.small_s) / median(loop.small_s) - 1)
        parts += [one.large_s, loop.large_s, by_ray.large_s]
        starts.append(one.start_s)
    spans = [makespan(parts, median(starts), seed) for seed in range(RUNS)]
    return {
        "two_over_one": at_least(scaling, 0.85),
        "devices_overhead": at_most(large[0], 0.02),
        "ray_overhead": at_most(large[1], 0.02),
        "devices_overhead_64": shown(small[0]),
        "ray_overhead_64": shown(small[1]),
        "makespan_64": at_most(spans, 1.1),
    }


if __name__ == "__main__":
    main(measure, __doc__)
