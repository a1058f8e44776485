"""When the large model is not asked: after failures in a row, or above a cap on dollars."""

import threading
import time
from collections import deque
from collections.abc import Callable

HOUR_S = 3600.0


class Breaker:
    """Opens after so many failures in a row; after a while one call is let through, which closes it or does not.

    Args:
        failures: in a row that open it.
        rest_s: seconds until the next call is tried.
        now: a clock, seconds.
    """

    def __init__(self, failures: int = 5, rest_s: float = 30.0, now: Callable[[], float] = time.monotonic) -> None:
        self._failures, self._rest_s, self._now = failures, rest_s, now
        self._in_a_row = self._begun = 0
        self._opened: float | None = None
        self._trial = 0

    @property
    def is_open(self) -> bool:
        """Whether calls are held back now."""
        return self._opened is not None and (self._trial > 0 or self._now() - self._opened < self._rest_s)

    def begin(self) -> int:
        """Return the number of a call that may go, else 0; while it is open, one at a time may, after the rest."""
        if self.is_open:
            return 0
        self._begun += 1
        self._trial = 0 if self._opened is None else self._begun
        return self._begun

    def succeeded(self) -> None:
        """Say that a call came back."""
        self._in_a_row, self._opened, self._trial = 0, None, 0

    def failed(self) -> None:
        """Say that a call failed for a reason of the other side's."""
        self._in_a_row += 1
        if self._trial or self._in_a_row >= self._failures:
            self._opened = self._now()
        self._trial = 0

    def ended(self, call: int) -> None:
        """Say that a call is over, whatever came of it; of a trial of which nothing came, nothing is known.

        Args:
            call: its number; calls from before the trial end beside it.
        """
        if call == self._trial:
            self._trial = 0


class Purse:
    """Dollars spent in the last hour, against a cap. Any thread may ask, since gauges do; one counts the calls.

    What a call costs is known when it has ended, so those under way count as the dearest of the last hour; as the last
    one where that hour had none, and before any as the newest is estimated to. The first of an hour always goes: a
    call that is dearer than the cap would else shut the others out for ever.

    Args:
        most_per_hour: dollars; None for no cap.
        now: a clock, seconds.
    """

    def __init__(self, most_per_hour: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.most_per_hour, self._now, self._lock = most_per_hour, now, threading.Lock()
        self._spent: deque[tuple[float, float]] = deque()
        self._peaks: deque[tuple[float, float]] = deque()  # calls that no later one has reached; the dearest first
        self._sum = self._guess = 0.0
        self.under_way = 0

    @property
    def last_hour(self) -> float:
        """Dollars spent in the last hour."""
        with self._lock:
            self._forget()
            return max(self._sum, 0.0)

    @property
    def is_empty(self) -> bool:
        """Whether one more call could go above the cap."""
        if self.most_per_hour is None:
            return False
        with self._lock:
            self._forget()
            if not self._spent and not self.under_way:
                return False
            dearest = self._peaks[0][1] if self._peaks else self._guess
            return self._sum + (self.under_way + 1) * dearest > self.most_per_hour

    @property
    def wait_s(self) -> int:
        """Whole seconds until the oldest call of the hour no longer counts."""
        with self._lock:
            return max(1, int(HOUR_S - (self._now() - self._spent[0][0]))) if self._spent else 1

    def begin(self, guess: float) -> None:
        """Count a call as under way, with the dollars that it is estimated to cost."""
        self.under_way += 1
        self._guess = guess

    def spend(self, dollars: float) -> None:
        """Count what a call has cost."""
        with self._lock:
            while self._peaks and self._peaks[-1][1] <= dollars:
                self._peaks.pop()
            for calls in (self._peaks, self._spent):
                calls.append((self._now(), dollars))
            self._sum += dollars

    def _forget(self) -> None:
        """Drop what is older than an hour, but the last call's dollars: they are the best guess at the next one's."""
        since = self._now() - HOUR_S
        while self._spent and self._spent[0][0] < since:
            self._sum -= self._spent.popleft()[1]
        while len(self._peaks) > 1 and self._peaks[0][0] < since:
            self._peaks.popleft()
