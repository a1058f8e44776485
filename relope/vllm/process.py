"""A vLLM server that is started, waited for and ended from here; it ends with this process, however that ends."""

import contextlib
import fcntl
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
from relope.partial import remove_if_free
from relope.vllm import guard
from relope.vllm.command import Server

SILENT_S = 900.0
"""How long a server that loads may write nothing to its log; it writes a line for every file of weights."""

START_S = 4 * 3600.0
"""How long it may take to load in all: one that hangs may write that it does, again and again."""

KEPT_LOG_S = 7 * 86400.0
"""How long the log of a server lies that has died."""

_HELPS = (
    (
        re.compile(r"on startup is less than"),
        "less of the machine by --vllm-argument=--gpu-memory-utilization=0.5 (or as much as is free)",
    ),
    (
        re.compile(r"larger than the available KV cache memory(?:.*estimated maximum model length is (\d+))?"),
        "shorter prompts by --vllm-argument=--max-model-len={}",
    ),
    (
        re.compile(r"No available memory for the cache blocks"),
        "more of the machine by --vllm-argument=--gpu-memory-utilization=0.95, or more cards by "
        "--vllm-argument=--tensor-parallel-size=2",
    ),
)
"""What a log says → what helps.

Source: vLLM 0.32, ``v1/worker/utils.py`` (request_memory), ``v1/worker/cpu_worker.py``, ``v1/core/kv_cache_utils.py``
(_check_enough_kv_cache_memory).
"""

_LENGTH = "8192"

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
        self.url = f"http://{server.host}:{server.port}"
        self._own_log = log is None
        self.log = log or _new_log()
        environment = {**os.environ, **server.environment(os.environ)}
        guarded = [sys.executable, "-I", guard.__file__, str(os.getpid()), *server.command(python)]
        try:
            with self.log.open("wb") as out:
                with contextlib.suppress(OSError):  # held until all are gone that write to it
                    fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._process = subprocess.Popen(
                    guarded,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            if self._own_log:
                self.log.unlink(missing_ok=True)
            raise OutputError(f"the vLLM server cannot be started: {error.strerror or error} ({self.log})") from error

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(
        self, timeout_s: float = START_S, given_up: threading.Event | None = None, silent_s: float = SILENT_S
    ) -> None:
        """Wait until it answers; end it where it does not.

        Args:
            timeout_s: how long.
            given_up: set where it is not to be waited for any more.
            silent_s: how long while it writes nothing to its log.

        Raises:
            OutputError: it ended, took too long, or was given up.
        """
        given_up = given_up or threading.Event()
        begun = written = time.monotonic()
        size = 0
        while not is_healthy(self.url):
            now = time.monotonic()
            if not self.runs:
                said = self._said()
                raise OutputError(f"the vLLM server ended at its start: {self._why(said)}", hint=self._hint(said))
            if (grown := self._log_bytes()) != size:
                size, written = grown, now
            if now - begun > timeout_s or now - written > silent_s:
                self.end(keeps_log=True)
                silent = f", and wrote nothing for {silent_s:g} s" if now - written > silent_s else ""
                raise OutputError(
                    f"the vLLM server was not ready within {now - begun:.0f} s{silent}",
                    hint=f"see {self.log}; --vllm-url asks one that you have started and waited for",
                )
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
            self.log.unlink(missing_ok=True)

    def _log_bytes(self) -> int:
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def _said(self) -> str:
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _why(self, said: str) -> str:
        """Return the first error in its log, without a traceback."""
        lines = (line for line in said.splitlines() if " WARNING " not in line)
        told = next((error[0] for line in lines if (error := _ERROR.search(line))), None)
        return (told or f"exit status {self._process.returncode}")[:_SHOWN]

    def _hint(self, said: str) -> str:
        """Return where its log is, and what helps where that tells."""
        for reason, way_out in _HELPS:
            if told := reason.search(said):
                return f"see {self.log}; {way_out.format(*(group or _LENGTH for group in told.groups()))}"
        return f"see {self.log}"


def _new_log() -> Path:
    """Return a new file for a log, and remove those of servers that have died long ago."""
    folder, beginning = Path(tempfile.gettempdir()), f"relope-vllm-{os.getuid()}-"
    for left in folder.glob(f"{beginning}*.log"):
        with contextlib.suppress(OSError):
            status = left.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > KEPT_LOG_S:
                remove_if_free(left)
    try:
        opened, log = tempfile.mkstemp(".log", beginning)
    except OSError as error:
        raise OutputError(f"no log can be written in {folder}: {error.strerror or error}") from error
    os.close(opened)
    return Path(log)


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
