"""RouteLLM, similarity-weighted ranking: how the models did on training questions like this one."""

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from relope.probes.encoder import TFIDF, Pair, open_encoder, restore_encoder
from relope.probes.examples import Examples, check_trainable
from relope.probes.files import load_state, save_state
from relope.probes.protocol import Params, Traits
from relope.probes.text import prompt_texts
from relope.types import Progress, no_progress

VERSION = 1

Floats = npt.NDArray[np.float64]
_ROWS = 512
"""Questions whose similarities to the training set are held at once."""


class Settings(Params):
    """Settings of ``routellm-sw``; ``encoder`` takes a sentence-transformers name or local folder."""

    encoder: str = Field(TFIDF, min_length=1)
    dimensions: int = Field(256, ge=1)
    max_words: int = Field(32_768, ge=1)


class Method:
    """P(correct) = 1 − Σ w_i y_i / Σ w_i over the training questions, w_i = 10 · 10^(s_i / max s).

    s_i is the cosine of the question's embedding with training question i. y_i is 1 where the
    large model wins (only it is right), ½ for a tie, 0 where the small one wins. Without a large
    store y_i = 1 where the small model is wrong, else 0, and ``note`` says so. With two models the
    weighted Bradley–Terry fit is this weighted mean. Where max s ≤ 0 (a question that shares
    nothing with any other) all weights are equal.

    Source: Ong et al. 2024 (RouteLLM, SW ranking), as compared in ReLope §5. Choice: TF-IDF
    reduced to 256 dimensions by a truncated SVD instead of OpenAI's embeddings.
    """

    name: ClassVar[str] = "routellm-sw"
    traits: ClassVar[Traits] = Traits(reads_answer=False, reads_large=True)
    Params: ClassVar[type[Settings]] = Settings

    def __init__(self, params: Settings) -> None:
        self.params = params
        self.note = ""

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        texts = _pairs(examples)
        self.encoder_ = open_encoder(self.params.encoder, self.params.max_words).learn(texts)
        encoded = self.encoder_.encode(texts)
        self.basis_ = self._basis(encoded, seed) if self.params.encoder == TFIDF else None
        self.known_ = self._embed(encoded)
        small, large = examples.labels.astype(np.float64), examples.large_correct
        self.wins_ = 1 - small if large is None else (large.astype(np.float64) - small + 1) / 2
        if large is None:
            self.note = (
                "fitted without a large model's grades: y = 1 where the small model is wrong, so it ranks by how often "
                "the small model was right on similar questions, not by which model wins"
            )
        return self

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        asked = self._embed(self.encoder_.encode(_pairs(examples)))
        parts = [win_rates(asked[at : at + _ROWS] @ self.known_.T, self.wins_) for at in range(0, len(asked), _ROWS)]
        rates = np.concatenate([np.zeros(0), *parts])
        return (1 - rates).clip(0, 1).astype(np.float32)

    def _basis(self, encoded: Any, seed: int) -> Floats:
        """Return the ``[F, k]`` right singular vectors of the training texts."""
        from sklearn.decomposition import TruncatedSVD

        k = min(self.params.dimensions, *encoded.shape)
        svd = TruncatedSVD(k, random_state=seed).fit(encoded)
        return np.ascontiguousarray(svd.components_.T, dtype=np.float64)

    def _embed(self, encoded: Any) -> Floats:
        """Return ``[N, k]`` rows of length 1; a text without a known word stays zero."""
        rows: Floats = encoded if self.basis_ is None else encoded @ self.basis_
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(length > 0, length, 1)

    def save(self, folder: Path) -> None:
        settings, tensors = self.encoder_.state()
        kept: dict[str, Any] = {
            "method": self.name,
            "params": self.params.model_dump(),
            "text": settings,
            "note": self.note,
        }
        tensors = {**tensors, "known": self.known_, "wins": self.wins_}
        save_state(folder, kept, tensors if self.basis_ is None else {**tensors, "basis": self.basis_})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        probe.encoder_ = restore_encoder(settings["text"], tensors)
        probe.basis_, probe.note = tensors.get("basis"), settings["note"]
        probe.known_, probe.wins_ = tensors["known"], tensors["wins"]
        return probe


def win_rates(similarities: Floats, wins: Floats) -> Floats:
    """Return ``[n]``: the large model's weighted win rate, of cosines ``[n, N]`` and outcomes ``[N]``."""
    highest = similarities.max(axis=1, keepdims=True)
    scaled = np.divide(similarities, highest, out=np.zeros_like(similarities), where=highest > 0)
    weights = 10 * 10**scaled
    rates: Floats = weights @ wins / weights.sum(axis=1)
    return rates


def _pairs(examples: Examples) -> list[Pair]:
    return [(text, "") for text in prompt_texts(examples)]
