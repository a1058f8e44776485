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
        self._in_a_row = 0
        self._opened: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls are held back now."""
        return self._opened is not None and (self._trying or self._now() - self._opened < self._rest_s)

    def begin(self) -> bool:
        """Return whether a call may go; while it is open, one at a time may, after the rest."""
        if self.is_open:
            return False
        self._trying = self._opened is not None
        return True

    def succeeded(self) -> None:
        """Say that a call came back."""
        self._in_a_row, self._opened, self._trying = 0, None, False

    def failed(self) -> None:
        """Say that a call failed for a reason of the other side's."""
        self._in_a_row += 1
        if self._trying or self._in_a_row >= self._failures:
            self._opened = self._now()
        self._trying = False

    def gave_up(self) -> None:
        """Say that a call ended for a reason of the client's: nothing is known."""
        self._trying = False


class Purse:
    """Dollars spent in the last hour, against a cap. Any thread may ask, since gauges do; one counts the calls.

    What a call costs is known when it has ended, so those under way count as the dearest call so far.

    Args:
        most_per_hour: dollars; None for no cap.
        now: a clock, seconds.
    """

    def __init__(self, most_per_hour: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.most_per_hour, self._now, self._lock = most_per_hour, now, threading.Lock()
        self._spent: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self.dearest = 0.0
        self.under_way = 0

    @property
    def last_hour(self) -> float:
        """Dollars spent in the last hour."""
        with self._lock:
            while self._spent and self._now() - self._spent[0][0] > HOUR_S:
                self._sum -= self._spent.popleft()[1]
            return max(self._sum, 0.0)

    @property
    def is_empty(self) -> bool:
        """Whether one more call could go above the cap."""
        if self.most_per_hour is None:
            return False
        return self.last_hour + (self.under_way + 1) * self.dearest > self.most_per_hour

    @property
    def wait_s(self) -> int:
        """Whole seconds until the oldest call of the hour no longer counts."""
        with self._lock:
            return max(1, int(HOUR_S - (self._now() - self._spent[0][0]))) if self._spent else 1

    def spend(self, dollars: float) -> None:
        """Count a call."""
        with self._lock:
            self.dearest = max(self.dearest, dollars)
            self._spent.append((self._now(), dollars))
            self._sum += dollars
