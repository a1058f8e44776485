"""A vLLM server that is started, waited for and ended from here; it ends with this process, however that ends."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from relope.errors import NotFoundError, OutputError
from relope.vllm import guard
from relope.vllm.command import Server

START_S = 900.0
"""How long a server may take to load: compiling a large model takes minutes."""

_FINDS = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
_ERROR = re.compile(r"\b\w+Error: \S.*")
_SHOWN = 300
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is asked as it is, with no proxy between


class Process:
    """A server in a process of its own, with all that it starts.

    Attributes:
        url: that it listens at, without a path.
        log: file that its output goes to.
    """

    def __init__(self, server: Server, python: str, log: Path | None = None) -> None:
        """Start a server; `wait` waits for it.

        Args:
            server: which one.
            python: of the environment that vLLM is installed in.
            log: file that its output goes to, anew; None: one of its own, which goes at the end unless the server
                has ended by itself.

        Raises:
            NotFoundError: there is no such Python, or no vLLM in its environment.
            OutputError: the log cannot be written.
        """
        check_python(python)
        self.url, self._own_log = f"http://{server.host}:{server.port}", log is None
        self.log = log or Path(tempfile.mkdtemp(prefix="relope-vllm-")) / "server.log"
        environment = {**os.environ, **server.environment()}
        guarded = [sys.executable, "-I", guard.__file__, str(os.getpid()), *server.command(python)]
        try:
            with self.log.open("wb") as out:
                self._process = subprocess.Popen(
                    guarded,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise OutputError(f"the vLLM server cannot be started: {error.strerror or error} ({self.log})") from error

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self, timeout_s: float = START_S, given_up: threading.Event | None = None) -> None:
        """Wait until it answers; end it where it does not.

        Args:
            timeout_s: how long.
            given_up: set where it is not to be waited for any more.

        Raises:
            OutputError: it ended, took too long, or was given up.
        """
        until, given_up = time.monotonic() + timeout_s, given_up or threading.Event()
        while not is_healthy(self.url):
            if not self.runs:
                hint = f"see {self.log}; less of the machine by --vllm-argument=--gpu-memory-utilization=0.5"
                raise OutputError(f"the vLLM server ended at its start: {self._why()}", hint=hint)
            if time.monotonic() > until:
                self.end(keeps_log=True)
                raise OutputError(f"the vLLM server was not ready within {timeout_s:g} s", hint=f"see {self.log}")
            if given_up.wait(0.5):
                self.end()
                raise OutputError("the vLLM server was ended while it was loading")

    def end(self, grace_s: float = 20.0, *, keeps_log: bool = False) -> None:
        """End it and all that it has started; remove its log where that is its own and nothing tells of a fault."""
        faulty = keeps_log or not self.runs
        for sent, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
            try:
                os.killpg(self._process.pid, sent)
            except (ProcessLookupError, PermissionError):
                break
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()
        if self._own_log and not faulty:
            shutil.rmtree(self.log.parent, ignore_errors=True)

    def _why(self) -> str:
        """Return the last error in its log, without a traceback."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        told = [error[0] for line in lines if " WARNING " not in line and (error := _ERROR.search(line))]
        return (told[0] if told else f"exit status {self._process.returncode}")[:_SHOWN]


def check_python(python: str) -> None:
    """Refuse a Python without vLLM.

    Raises:
        NotFoundError: there is none, or its environment has no vLLM.
    """
    if shutil.which(python) is None:
        raise NotFoundError(f"there is no Python at {python}", hint="name that of vLLM's own environment")
    if subprocess.run([python, "-c", _FINDS], capture_output=True, check=False).returncode:
        raise NotFoundError(
            f"the environment of {python} has no vLLM", hint="python3 -m venv DIR; DIR/bin/pip install vllm"
        )


def is_healthy(url: str, timeout_s: float = 5.0) -> bool:
    """Return whether a server answers at an address."""
    try:
        with _OPENER.open(f"{url}/health", timeout=timeout_s) as answer:
            return int(answer.status) == 200
    except (OSError, ValueError, urllib.error.URLError):
        return False


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as made:
        made.bind((host, 0))
        return int(made.getsockname()[1])
