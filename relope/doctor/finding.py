"""One thing that was looked at, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what was.
        level: ``ok``; ``warning`` where something works less well or not at all that not everybody needs; ``error``
            where relope does not work.
        said: how it is.
        do: what to do; ``""`` where nothing is to be done.
    """

    name: str
    level: Level
    said: str
    do: str = ""
