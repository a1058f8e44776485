"""Texts as vectors: TF-IDF saved as plain word lists and arrays, or a sentence-transformers model by name."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError, NotFoundError
from relope.probes.files import Tensors
from relope.probes.logistic import Matrix
from relope.probes.text import tokens

TFIDF = "tfidf"
Pair = tuple[str, str]
"""A question, and an answer or ``""``."""


class Encoder(Protocol):
    """Turns (question, answer) pairs into rows."""

    def learn(self, pairs: Sequence[Pair]) -> Self:
        """Learn from the training split's texts."""

    def encode(self, pairs: Sequence[Pair]) -> Matrix:
        """Return ``[N, F]``, sparse or dense."""

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return JSON values and arrays from which `restore_encoder` rebuilds it to the bit."""


class Tfidf:
    """TF-IDF of words and word pairs, rows of length 1; an answer's words are told from a question's.

    Choice: sublinear counts, smoothed idf, the ``limit`` most frequent terms (scikit-learn's own).
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def learn(self, pairs: Sequence[Pair]) -> Self:
        from sklearn.feature_extraction.text import TfidfVectorizer

        learned = TfidfVectorizer(**_OPTIONS, max_features=self.limit).fit(_lines(pairs))
        return self._open(
            sorted(learned.vocabulary_), learned.idf_[[*map(learned.vocabulary_.get, sorted(learned.vocabulary_))]]
        )

    def _open(self, vocabulary: list[str], idf: npt.NDArray[np.float64]) -> Self:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vocabulary_, self.idf_ = vocabulary, idf
        self.vectors_ = TfidfVectorizer(**_OPTIONS, vocabulary=vocabulary)
        self.vectors_.idf_ = idf
        return self

    def encode(self, pairs: Sequence[Pair]) -> Matrix:
        if not pairs:  # scikit-learn refuses to transform nothing
            return np.zeros((0, len(self.vocabulary_)))
        return self.vectors_.transform(_lines(pairs))

    def state(self) -> tuple[dict[str, Any], Tensors]:
        return {"encoder": TFIDF, "limit": self.limit, "vocabulary": self.vocabulary_}, {"idf": self.idf_}

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: Tensors) -> Self:
        """Rebuild from ``state``."""
        return cls(settings["limit"])._open(settings["vocabulary"], tensors["idf"])


_OPTIONS: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": r"\S+", "sublinear_tf": True, "lowercase": False}


def _lines(pairs: Sequence[Pair]) -> list[str]:
    return [" ".join(["<q>", *tokens(question), *tokens(answer, "a:")]) for question, answer in pairs]


class Sentences:
    """Embeddings of a sentence-transformers model; question and answer on two lines, rows of length 1."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.model = _open_model(name)

    def learn(self, pairs: Sequence[Pair]) -> Self:
        return self

    def encode(self, pairs: Sequence[Pair]) -> Matrix:
        texts = ["\n".join(part for part in pair if part) or _BLANK for pair in pairs]
        vectors = self.model.encode(
            texts or [_BLANK], batch_size=32, show_progress_bar=False, normalize_embeddings=True
        )
        return np.asarray(vectors, dtype=np.float64)[: len(texts)]

    def state(self) -> tuple[dict[str, Any], Tensors]:
        return {"encoder": self.name}, {}


_BLANK = "?"
"""Stands for an empty text: some tokenizers give no token for one, and no model takes none."""


def open_encoder(name: str, limit: int) -> Encoder:
    """Return an encoder: ``tfidf``, or a sentence-transformers name or local folder.

    Raises:
        NotFoundError: the package is not installed, or there is no such model.
    """
    return Tfidf(limit) if name == TFIDF else Sentences(name)


def restore_encoder(settings: dict[str, Any], tensors: Tensors) -> Encoder:
    """Return the encoder that ``state`` described."""
    return Tfidf.restore(settings, tensors) if settings["encoder"] == TFIDF else Sentences(settings["encoder"])


def _open_model(name: str) -> Any:
    """Open a sentence-transformers model; its weights must be safetensors, its code the package's own."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise NotFoundError(
            f"encoder={name} needs the package sentence-transformers, which is not installed",
            hint="pip install 'relope[text]', or use encoder=tfidf",
        ) from error
    try:
        return SentenceTransformer(name, device="cpu", model_kwargs={"use_safetensors": True})
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"encoder={name!r} is neither tfidf nor a sentence-transformers model that can be opened "
            f"({str(error).splitlines()[0]})",
            hint="give a local folder or a hub name with safetensors weights",
        ) from error
