"""Ask an endpoint: ``python benchmarks/bench_endpoint.py [--json] [--quick]``.

2,000 questions of the embedded benchmark, each with its image, put by 32 workers to a server on the loopback that takes
50 ms for an answer: at best 32/0.05 = 640 answers a second. Counted is the whole of it, from the first question to the
last sealed part: reading and encoding images, the journal, and the parts with a picture of each image. The server is a
process of its own and shares the cores; how near they let anybody come is told by a peer, which takes turns: a loop of
httpx2's asyncio client that puts the same requests, ready as bytes, and keeps nothing. Seconds of a core for 1,000
answers hardly depend on what else runs: of ours from reading the data set to the grades, of the peer those of its loop.
The last figure is the most memory that the asking process held.
"""

import json
import multiprocessing
import multiprocessing.connection
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, at_least, at_most, main, shown

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from openai_stub import Stub

LATENCY_S, WORKERS = 0.05, 32
ASK = """
import json, resource, sys, time
from relope import steps
from relope.spec import build
url, out, n, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
fields = {"model": "served", "endpoint": url, "dataset": "tiny", "split": "test", "limit": n, "workers": workers}
spec, begun = build("extract", {**fields, "out": out, "max_new_tokens": 8}), time.process_time()
made = steps.run(spec)
took = time.process_time() - begun
assert made.facts["computed"] == made.facts["requests"] == n, made.facts
print(json.dumps([made.facts["seconds"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, took]))
"""
PEER = """
import asyncio, json, sys, time
import httpx2
from relope.extract.endpoint.messages import messages_of
from relope.spec import build
from relope.steps.extraction import extraction_of, samples_of
from relope.types import silent
url, n, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
spec = build("extract", {"model": "served", "endpoint": url, "dataset": "tiny", "split": "test", "limit": n})
extraction = extraction_of(spec)
samples = extraction.view.worded(samples_of(extraction, silent))
asked = [{"model": "served", "messages": messages_of(sample, False, None), "max_tokens": 8} for sample in samples]
bodies = [json.dumps(body).encode() for body in asked]
async def work(client, todo):
    for body in todo:
        response = await client.post("/chat/completions", content=body, headers={"Content-Type": "application/json"})
        assert response.json()["choices"]
async def main():
    limits = httpx2.Limits(max_connections=workers, max_keepalive_connections=workers)
    async with httpx2.AsyncClient(base_url=url, limits=limits) as client:
        todo, begun, used = iter(bodies), time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(client, todo) for _ in range(workers)))
        return time.perf_counter() - begun, time.process_time() - used
print(json.dumps(asyncio.run(main())))
"""


@dataclass(frozen=True)
class Sizes:
    """How much is asked, and how often."""

    questions: int = 2000
    rounds: int = 5


QUICK = Sizes(questions=96, rounds=5)


def serve(channel: multiprocessing.connection.Connection) -> None:
    """Answer every question with one letter, until somebody says so."""
    with Stub(lambda body: "A", latency_s=LATENCY_S) as stub:
        channel.send(stub.url)
        channel.recv()


def ask(url: str, sizes: Sizes) -> tuple[float, float, float]:
    """Return answers a second, MiB, and seconds of a core for 1,000 answers, of a process that asks everything once."""
    with tempfile.TemporaryDirectory() as folder:
        out, numbers = str(Path(folder) / "x.zarr"), (sizes.questions, WORKERS)
        command = [sys.executable, "-c", ASK, url, out, *map(str, numbers)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, mebibytes, used = json.loads(said.splitlines()[-1])
    return sizes.questions / seconds, mebibytes, 1000 * used / sizes.questions


def ask_bare(url: str, sizes: Sizes) -> tuple[float, float]:
    """Return answers a second, and seconds of a core for 1,000 answers, of the peer."""
    command = [sys.executable, "-c", PEER, url, str(sizes.questions), str(WORKERS)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, used = json.loads(said.splitlines()[-1])
    return sizes.questions / seconds, 1000 * used / sizes.questions


def measure(quick: bool) -> dict[str, Figure]:
    """Return every figure."""
    sizes = QUICK if quick else Sizes()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    server.start()
    try:
        url = ours.recv()
        measured = [(*ask(url, sizes), *ask_bare(url, sizes)) for _ in range(sizes.rounds)]
    finally:
        ours.send("end")
        server.join()
    ideal = WORKERS / LATENCY_S
    return {
        "answers_of_ideal": at_least([rate / ideal for rate, *_ in measured], 0.9),
        "answers_of_peer": at_least([rate / bare for rate, _, _, bare, _ in measured], 0.9),
        "peer_of_ideal": shown([bare / ideal for *_, bare, _ in measured]),
        "core_seconds_1000": shown([used for _, _, used, _, _ in measured]),
        "core_seconds_1000_peer": shown([used for *_, used in measured]),
        "mebibytes": at_most([size for _, size, *_ in measured], 400),
    }


if __name__ == "__main__":
    main(measure, __doc__)
