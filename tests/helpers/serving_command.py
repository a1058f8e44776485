"""`relope serve` as a command: a process that is waited for, asked over HTTP, and ended by a signal."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Served:
    """One `relope serve`, with all that it starts; all of them carry a mark in their environment."""

    def __init__(self, arguments, **environment):
        self.mark = f"RELOPE_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        given = {**os.environ, "PYTHONPATH": str(ROOT), name: value, **environment}
        command = [sys.executable, "-m", "relope", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given)
        self.said, self.url, self._found = [], "", threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"relope serves .* at (http://\S+)", line):
                self.url = found[1]
                self._found.set()
        self._found.set()

    def wait(self, seconds=400):
        """Wait until the small model answers."""
        assert self._found.wait(60) and self.url, "".join(self.said)
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{self.url}/ready"):
                return self
            time.sleep(0.2)
        raise AssertionError("".join(self.said))

    def ask(self, *parts, threshold=None, **body):
        """Return headers and body of an answer; of a streamed one its text and the model's name."""
        headers = {"Content-Type": "application/json"}
        if threshold is not None:
            headers["x-relope-threshold"] = str(threshold)
        asked = {"messages": [{"role": "user", "content": list(parts)}], **body}
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", json.dumps(asked).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            told = answer.read().decode()
            return dict(answer.headers), _joined(told) if body.get("stream") else _whole(json.loads(told))

    def end(self, sent=signal.SIGTERM, seconds=60):
        """End it by a signal, and return its exit status."""
        self.process.send_signal(sent)
        self.process.wait(seconds)
        self._reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.returncode

    def alive(self):
        """Return the processes that it has started, itself included, which have not ended."""
        return marked(self.mark)


def marked(mark):
    """Return the processes whose environment holds a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def _whole(answer):
    return answer["choices"][0]["message"]["content"], answer["model"]


def _joined(events):
    values = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    assert events.rstrip().endswith("data: [DONE]") and not any("error" in value for value in values), events
    deltas = [choice["delta"].get("content") or "" for value in values for choice in value["choices"]]
    return "".join(deltas), values[0]["model"]


@contextlib.contextmanager
def serving(*arguments, **environment):
    """Give a `relope serve`, killed at the end with all that it has started, where that is not over by then."""
    made = Served(arguments, **environment)
    try:
        yield made
    finally:
        for process in made.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        made.process.wait(20)
