"""One process a device on this machine: each takes the next unit as soon as it has sealed one."""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, NoReturn

from relope.errors import InvalidInputError
from relope.extract.engine import AHEAD, WORKER, EngineError, Work
from relope.extract.plan import Unit


def compute_on(devices: Sequence[str], asked: Mapping[str, Any], work: Work) -> None:
    """Compute every unit, on one process a device.

    Args:
        devices: of this machine.
        asked: what each process opens the extraction by.
        work: what is to be computed.

    Raises:
        EngineError: a process has died; the others have ended their parts.
        InvalidInputError: a process refuses to go on.
    """
    crew = _Crew(work, len(devices))
    processes = [_Process(device, asked, len(devices)) for device in devices[: len(work.units)]]
    try:
        with ThreadPoolExecutor(len(processes), "relope-device") as threads:
            running = [threads.submit(crew.keep_busy, number, process) for number, process in enumerate(processes)]
            try:
                ended, _ = wait(running, return_when=FIRST_EXCEPTION)
            except BaseException:
                for process in processes:
                    process.kill()
                raise
            finally:
                crew.stop()
            for future in [*ended, *running]:
                future.result()
    finally:
        for process in processes:
            process.kill()


class _Crew:
    """What the threads share: units that nobody has taken, and how far each has come with its own."""

    def __init__(self, work: Work, n_processes: int) -> None:
        self._units, self._work, self._n_processes = deque(work.units), work, n_processes
        self._sealed, self._at = 0, dict[int, int]()
        self._lock = threading.Lock()

    def keep_busy(self, number: int, process: "_Process") -> None:
        """Give a process one unit after another."""
        handed = deque[Unit]()
        while True:
            while (unit := self._next(len(handed))) is not None:
                process.hand(unit)
                handed.append(unit)
            if not handed:
                break
            answer = process.answer()
            if "sealed" in answer:
                handed.popleft()
            self._tell(number, answer.get("done"), answer.get("sealed", 0))
        process.finish()

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._units.clear()

    def _next(self, n_handed: int) -> Unit | None:
        """Return a unit for a process that has so many; further ones only while each could still have one."""
        with self._lock:
            enough = len(self._units) >= self._n_processes if n_handed else bool(self._units)
            return self._units.popleft() if enough and n_handed < AHEAD else None

    def _tell(self, number: int, done: int | None, sealed: int) -> None:
        with self._lock:
            self._at[number] = max(0, self._at.get(number, 0) - sealed) if done is None else done
            self._sealed += sealed
            self._work.progress(self._sealed + sum(self._at.values()), self._work.n_samples)


class _Process:
    """A process that has the model on a device."""

    def __init__(self, device: str, asked: Mapping[str, Any], count: int) -> None:
        self._device = device
        threads = str(max(1, (os.cpu_count() or 1) // count))
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={"OMP_NUM_THREADS": threads, **os.environ},
        )
        self._send({**asked, "spec": {**asked["spec"], "device": device}})

    def hand(self, unit: Unit) -> None:
        """Put a unit behind those that it has."""
        self._send([list(unit.ids), unit.batch_size])

    def answer(self) -> dict[str, int]:
        """Wait until it says how many samples it has ``done`` that are not sealed, or how many it has ``sealed``."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._dead()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InvalidInputError(f"on {self._device}: {answer['error']}", hint=answer["hint"])
        return answer

    def finish(self) -> None:
        """Let the process end by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def kill(self) -> None:
        """End it, in mid-part or not."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def _send(self, value: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._dead()

    def _dead(self) -> NoReturn:
        code = self._process.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        raise EngineError(
            f"the process on {self._device} ended {how}; what was sealed is kept", hint="run the command again"
        )
