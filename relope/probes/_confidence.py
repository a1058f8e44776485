"""What the answer's own token log-probs say; the end token is excluded throughout."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from relope.probes import Examples, Params
from relope.probes._files import load_state, save_state
from relope.types import Progress, no_progress


def answer_values(examples: Examples, column: str) -> list[npt.NDArray[np.float64]]:
    """Return one array of per-token values a sample; an empty answer gives an empty array."""
    return [np.asarray(values, dtype=np.float64) for values in examples.table[column].to_list()]


class Untrained(ABC):
    """Base of the methods that train nothing: they only turn log-probs into a score."""

    name: ClassVar[str]
    trains: ClassVar[bool] = False
    control: ClassVar[bool] = False
    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: Any) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        return self

    @abstractmethod
    def score(self, examples: Examples) -> npt.NDArray[np.float64]:
        """Return ``[N]`` values in 0–1, larger = more likely right."""

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return self.score(examples).astype(np.float32)

    def save(self, folder: Path) -> None:
        save_state(folder, {"method": self.name}, {})

    @classmethod
    def load(cls, folder: Path) -> Self:
        load_state(folder)
        return cls(cls.Params())
