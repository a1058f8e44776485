"""A vLLM server that is started, waited for and ended from here."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from relope.errors import NotFoundError, OutputError
from relope.vllm.command import Server

START_S = 900.0
"""How long a server may take to load: compiling a large model takes minutes."""

_FINDS = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
_SHOWN = 300


class Process:
    """A server in a process of its own, with all that it starts.

    Attributes:
        url: that it listens at, without a path.
    """

    def __init__(self, server: Server, python: str, log: Path) -> None:
        """Start a server; `wait` waits for it.

        Args:
            server: which one.
            python: of the environment that vLLM is installed in.
            log: file that its output goes to, anew.

        Raises:
            NotFoundError: there is no such Python, or no vLLM in its environment.
            OutputError: the log cannot be written.
        """
        check_python(python)
        self.url, self._log = f"http://{server.host}:{server.port}", log
        environment = {**os.environ, **server.environment()}
        try:
            with log.open("wb") as out:
                self._process = subprocess.Popen(
                    server.command(python),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise OutputError(f"the vLLM server cannot be started: {error.strerror or error} ({log})") from error

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self, timeout_s: float = START_S) -> None:
        """Wait until it answers; end it where it does not.

        Raises:
            OutputError: it ended, or took too long.
        """
        until = time.monotonic() + timeout_s
        while not is_healthy(self.url):
            if not self.runs:
                raise OutputError(f"the vLLM server ended at its start: {self._why()}", hint=f"see {self._log}")
            if time.monotonic() > until:
                self.end()
                raise OutputError(f"the vLLM server was not ready within {timeout_s:g} s", hint=f"see {self._log}")
            time.sleep(0.5)

    def end(self, grace_s: float = 20.0) -> None:
        """End it and all that it has started."""
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

    def _why(self) -> str:
        """Return the last error in its log, without a traceback."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        told = [line.split("] ")[-1].strip() for line in lines if "Error" in line and "Traceback" not in line]
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
        with urllib.request.urlopen(f"{url}/health", timeout=timeout_s) as answer:
            return int(answer.status) == 200
    except (OSError, ValueError, urllib.error.URLError):
        return False


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as made:
        made.bind((host, 0))
        return int(made.getsockname()[1])
