"""What the answer's own token log-probs say; the end token is excluded throughout."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import NotFoundError
from relope.probes.examples import Examples, check_finite
from relope.probes.files import load_state, save_state
from relope.probes.protocol import Params, Traits
from relope.types import Progress, no_progress

Floats = npt.NDArray[np.float64]


def check_answers(examples: Examples, name: str) -> None:
    """Refuse a store of states alone.

    Raises:
        NotFoundError: the model was not asked to answer; ``name`` is the method's.
    """
    if not examples.store.manifest.identity.has_answers:
        raise NotFoundError(
            f"{name} needs the model's answers, which {examples.store.label} does not have",
            hint="extract again without --max-new-tokens 0 into a new --out",
        )


def answer_states(examples: Examples, name: str) -> npt.NDArray[np.float32]:
    """Return the mean final-layer state of each answer ``[N, H] float32``; ``name`` is the method's.

    Raises:
        NotFoundError: the model was not asked to answer.
        InvalidInputError: NaN or infinity.
    """
    check_answers(examples, name)
    states = examples.store.answer(examples.rows)
    check_finite(states, name, "answer states")
    return states


def answer_values(examples: Examples, column: str, name: str) -> list[Floats]:
    """Return one array of per-token values a sample; an empty answer gives an empty array.

    Raises:
        NotFoundError: the store has no answers, or nobody has told these values of some; ``name`` is the method's.
    """
    check_answers(examples, name)
    store, table = examples.store, examples.table
    known = table[column].is_not_null() if column in table.columns else pl.repeat(False, len(table), eager=True)
    if lacking := int((~known).sum()):
        raise NotFoundError(
            f"{name} needs the {column} of each answer, which {lacking} of {len(table)} samples of {store.label} lack",
            hint="ask a server that gives log-probs, or score with another method",
        )
    return [np.asarray(values, dtype=np.float64) for values in table[column].to_list()]


def log_odds(logprobs: Floats) -> float:
    """Return the log-odds of the whole answer's probability, within ±8; −8 for an empty answer."""
    if not len(logprobs):
        return -8.0
    probability = np.exp(logprobs.sum())
    return float(np.clip(np.log(probability + 1e-12) - np.log1p(-probability + 1e-12), -8, 8))


def answer_odds(examples: Examples, name: str) -> Floats:
    """Return ``[N, 1]``: `log_odds` of each answer."""
    return np.array([log_odds(values) for values in answer_values(examples, "logprobs", name)]).reshape(-1, 1)


def confidence_features(examples: Examples, name: str) -> Floats:
    """Return ``[N, 9]``: what an answer's log-probs (nats) and entropies (nats) say about it.

    Sum, mean, minimum and last of the log-probs, the log-odds of the whole answer, mean and
    maximum of the entropies, log(1 + number of tokens), and 1 for an empty answer (else 0). Of an
    empty answer all but the last and the log-odds are 0.

    Raises:
        InvalidInputError: a log-prob or entropy is NaN or infinite; ``name`` is the method's.
    """
    columns = (answer_values(examples, column, name) for column in ("logprobs", "entropies"))
    features = np.array([_features(*pair) for pair in zip(*columns, strict=True)]).reshape(-1, 9)
    check_finite(features, name, "log-probs")
    return features


def _features(logprobs: Floats, entropies: Floats) -> list[float]:
    if not len(logprobs):
        return [0, 0, 0, 0, log_odds(logprobs), 0, 0, 0, 1]
    said = [logprobs.sum(), logprobs.mean(), logprobs.min(), logprobs[-1], log_odds(logprobs)]
    return [*said, entropies.mean(), entropies.max(), float(np.log1p(len(logprobs))), 0]


class Untrained(ABC):
    """Base of the methods that train nothing: they turn what the store says of an answer into a score."""

    name: ClassVar[str]
    traits: ClassVar[Traits] = Traits(trains=False)
    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: Any) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        self.score(examples)  # a store that lacks what is read is refused now, not when scores are asked for
        return self

    @abstractmethod
    def score(self, examples: Examples) -> Floats:
        """Return ``[N]`` values in 0–1, larger = more likely right."""

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return self.score(examples).astype(np.float32)

    def save(self, folder: Path) -> None:
        save_state(folder, {"method": self.name, "params": self.params.model_dump()}, {})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, _ = load_state(folder)
        return cls(cls.Params(**settings.get("params", {})))
