"""A line now and then while something long runs and stderr is no terminal: what runs, how far, since when."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from relope.types import Progress

EVERY_S = 30.0


@dataclass
class _Running:
    """One thing that runs: when it began, and how far it is."""

    begun: float
    done: int = 0
    total: int = 0

    def line(self, label: str, now: float) -> str:
        """Return what is told of it."""
        far = f"{self.done:,} of {self.total:,}, " if self.total else ""
        return f"{label}: {far}running for {now - self.begun:.0f} s"


@dataclass
class Heartbeat:
    """What runs now; `heartbeat` tells of it."""

    _running: dict[str, _Running] = field(default_factory=dict)

    def begin(self, label: str) -> Progress:
        """Add something that runs and return what its progress is told to."""
        running = self._running[label] = _Running(time.monotonic())

        def tell(done: int, total: int) -> None:
            running.done, running.total = done, total

        return tell

    def end(self, label: str) -> None:
        """Tell no more of something."""
        self._running.pop(label, None)

    def lines(self) -> list[str]:
        """Return a line on everything that runs."""
        now = time.monotonic()
        return [running.line(label, now) for label, running in list(self._running.items())]


@contextmanager
def heartbeat(tell: Callable[[str], None], every_s: float | None = None) -> Iterator[Heartbeat]:
    """Tell every half minute what runs, for the length of the block."""
    beat, over = Heartbeat(), threading.Event()

    def speak() -> None:
        while not over.wait(EVERY_S if every_s is None else every_s):
            for line in beat.lines():
                tell(line)

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield beat
    finally:
        over.set()
        thread.join()
