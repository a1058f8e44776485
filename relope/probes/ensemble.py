"""Ensembles: one method fitted with several seeds, the logits of the fits averaged."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from relope.probes.examples import Examples, untold
from relope.probes.files import check_shapes, load_state, save_state
from relope.probes.logistic import logit, sigmoid
from relope.types import Progress, no_progress

Floats = npt.NDArray[np.float32]

FITS = "fits"
"""Folder of the fits in that of an ensemble; no other router has one."""


class Ensemble:
    """P(correct) = σ(mean of the logits of ``members`` fits of a method), which differ in their seeds alone.

    Every fit draws its own weights, batches and inner validation split. Fit k of seed s has seed s · members + k, so
    ensembles of different seeds share none. Subclasses, one a method, are made by `ensemble_of`.

    Source: Lakshminarayanan et al. 2017 (deep ensembles). Choice: logits are averaged, not probabilities.
    """

    name: ClassVar[str]
    traits: ClassVar[Any]
    Params: ClassVar[type[Any]]
    Member: ClassVar[type[Any]]

    def __init__(self, params: Any) -> None:
        self.fits_: list[Any] = []
        self.params = params

    @property
    def params(self) -> Any:
        """The settings that it was made with; the fits are given all but ``members``."""
        return self._params

    @params.setter
    def params(self, params: Any) -> None:
        self._params, self._one = params, params.model_copy(update={"members": 1})
        for fit in self.fits_:
            fit.params = self._one

    @property
    def block_use(self) -> Any:
        """How the fits run block l of the backbone."""
        return getattr(self.Member(self._one), "block_use", "none")

    @property
    def note(self) -> str:
        """What is averaged."""
        return f"the mean of {self.params.members} fits"

    def layers(self, layer: int) -> tuple[int, ...]:
        layers: tuple[int, ...] = self.Member(self._one).layers(layer)
        return layers

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        """Learn from labelled examples, one fit after the other; each keeps a state of its own, none has the curve."""
        n, self.fits_ = self.params.members, []
        for number in range(n):
            told = functools.partial(_told, progress, number, n)
            some = replace(examples, state=_state_of(examples.state, number), epoch_ended=untold)
            self.fits_.append(self.Member(self._one).fit(some, seed=seed * n + number, progress=told))
        return self

    def predict_proba(self, examples: Examples) -> Floats:
        return sigmoid(np.mean([logit(fit.predict_proba(examples)) for fit in self.fits_], axis=0))

    def save(self, folder: Path) -> None:
        for number, fit in enumerate(self.fits_):
            fit.save(folder / FITS / str(number))
        save_state(
            folder, {"method": self.name, "params": self.params.model_dump()}, {"fits": np.arange(len(self.fits_))}
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        check_shapes(folder, tensors, {"fits": [probe.params.members]})
        probe.fits_ = [cls.Member.load(folder / FITS / str(number)) for number in range(probe.params.members)]
        return probe


@functools.cache
def ensemble_of(method: type[Any]) -> type[Ensemble]:
    """Return the class of the ensembles of a method; they weigh tokens where the method does."""
    about: dict[str, Any] = {"name": method.name, "traits": method.traits, "Params": method.Params, "Member": method}
    if hasattr(method, "token_weights"):
        about["token_weights"] = _mean_weights
    return type("Ensemble", (Ensemble,), about)


def _mean_weights(self: Ensemble, examples: Examples) -> list[Floats]:
    """Return the mean over the fits of the weights ``[T]`` of every prompt token, one array a sample."""
    weights = [fit.token_weights(examples) for fit in self.fits_]
    return [np.mean(of_fits, axis=0, dtype=np.float32) for of_fits in zip(*weights, strict=True)]


def _told(progress: Progress, number: int, n: int, done: int, total: int) -> None:
    progress(number * total + done, n * total)


def _state_of(state: Path | None, number: int) -> Path | None:
    """Return the file in which a fit keeps its state: the first one's is the ensemble's."""
    return state if state is None or number == 0 else state.with_name(f"{state.stem}.{number}{state.suffix}")
