"""A run that is killed asks nobody twice whose answer it has got."""

import json
import os
import signal
import subprocess
import sys
import time

from asked_samples import answers_of
from openai_stub import Stub, key_of
from stepping import question, write_rows

from relope.extract.answer_journal import journal_path
from relope.extract.data.open import open_dataset
from relope.store import open_store, verify

KILLS = 20
DRIVER = """
import os, sys
import openai, polars
from relope import steps
from relope.spec import build
import relope.extract.asking_recipe, relope.extract.endpoint.transport, relope.steps.asking, relope.steps.extract
fields = eval(sys.argv[1])
for _ in sys.stdin:
    child = os.fork()
    if not child:
        steps.run(build("extract", fields))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Runs an extraction in a process of its own as often as a line comes in, without loading everything anew."""


def test_a_killed_run_asks_nobody_twice(tmp_path):
    """Twenty SIGKILLs: what came in is never asked again; only what was in flight when the run died may be."""
    data = write_rows(tmp_path / "data", [question(number) for number in range(120)])
    table, workers, out = answers_of(data), 4, tmp_path / "data" / "gpt.zarr"
    keys = dict(zip(_ids(data), table, strict=True))
    fields = {"model": "gpt-4.1", "dataset": str(data), "out": str(out), "workers": workers, "thumbnails": False}
    with Stub(table, latency_s=0.02) as stub:
        command = [sys.executable, "-c", DRIVER, repr({**fields, "endpoint": stub.url})]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:

            def begin():
                driver.stdin.write("go\n")
                driver.stdin.flush()
                return int(driver.stdout.readline())

            for kill in range(KILLS):
                before, n_before = {keys[name] for name in _journaled(out)}, len(stub.requests)
                child = begin()
                while len(stub.requests) < n_before + 3 + kill % 5:
                    time.sleep(0.001)
                os.kill(child, signal.SIGKILL)
                assert int(driver.stdout.readline()) == signal.SIGKILL
                asked = {key_of(body["messages"]) for _, _, body in stub.requests[n_before:]}
                assert not asked & before, "an answer that is kept is not asked for"
            begin()
            assert int(driver.stdout.readline()) == 0
            driver.stdin.close()
        assert set(stub.counts) == set(table) and sum(stub.counts.values()) <= 120 + KILLS * workers
    assert verify(out, deep=True) == [] and len(open_store(out)) == 120 and not journal_path(out).exists()


def _ids(data):
    dataset = open_dataset(str(data))
    return [sample.id for split in ("train", "test") for sample in dataset.load(split, None)]


def _journaled(out):
    """Return the ids whose answers a killed run has left."""
    path = journal_path(out)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [entry["id"] for entry in map(json.loads, lines) if "answer" in entry]
