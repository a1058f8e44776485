"""The scale that the intervals of a table's column are drawn on."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

PAD = 16
"""Pixels on both sides, so that a mark at the end is not cut."""

TICKS = ((0.05, 44), (0.1, 32), (0.2, 32))
"""Steps of a scale, and the pixels that its numbers must stand apart to be read at a glance."""


@dataclass(frozen=True)
class Scale:
    """Numbers between ``low`` and ``high`` laid out over a fixed width.

    Attributes:
        reference: marked in every row, None for nothing.
        step: between two ticks.
    """

    WIDTH: ClassVar[int] = 184
    HEIGHT: ClassVar[int] = 26

    low: float
    high: float
    reference: float | None
    step: float

    @classmethod
    def over(cls, intervals: Iterable[tuple[float, float] | None], reference: float | None) -> Self:
        """Span every interval."""
        bounds = [bound for interval in intervals if interval for bound in interval] or [0.4, 1.0]
        low = math.floor((min(bounds) - 0.005) * 20) / 20
        high = min(math.ceil((max(bounds) + 0.005) * 20) / 20, 1.0)
        room = cls.WIDTH - 2 * PAD
        return cls(low, high, reference, next((s for s, apart in TICKS if s / (high - low) * room >= apart), 0.5))

    @property
    def ticks(self) -> list[float]:
        """Return the numbers that are written."""
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return [self.step * number for number in range(first, last + 1)]

    def label(self, tick: float) -> str:
        """Return how a tick's number is written."""
        return f"{tick:.{2 if self.step < 0.1 else 1}f}"

    def x(self, value: float) -> str:
        """Return where a value stands, in pixels."""
        share = (value - self.low) / (self.high - self.low)
        return f"{PAD + share * (self.WIDTH - 2 * PAD):.1f}"

    @property
    def lines(self) -> str:
        """Return the grid as a CSS background, so that it runs through rows of any height."""
        grid = "linear-gradient(var(--grid), var(--grid))"
        lines = [f"{grid} {self.x(tick)}px 0/1px 100% no-repeat" for tick in self.ticks]
        if self.reference is not None:
            dashes = "repeating-linear-gradient(var(--muted) 0 3px, transparent 3px 6px)"
            lines.insert(0, f"{dashes} {self.x(self.reference)}px 0/1px 100% no-repeat")
        return ", ".join(lines)
