"""Logistic regression on the question's words: what both controls share."""

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from relope.probes import Examples, Params, check_trainable
from relope.probes._files import load_state, save_state


class TextSettings(Params):
    """Settings of the controls."""

    c: float = Field(1.0, gt=0, description="inverse strength of the L2 penalty")
    max_words: int = Field(4096, ge=1)


class Words:
    """Binary bag of words and word pairs of questions, saved as a plain word list."""

    def __init__(self, vocabulary: list[str]) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self.vocabulary = vocabulary
        self._counts = CountVectorizer(
            binary=True, ngram_range=(1, 2), token_pattern=r"\S+", vocabulary=vocabulary, dtype=np.float64
        )

    @classmethod
    def learn(cls, questions: list[str], limit: int) -> Self:
        """Take the most frequent words and pairs of the training questions."""
        from sklearn.feature_extraction.text import CountVectorizer

        counts = CountVectorizer(binary=True, ngram_range=(1, 2), token_pattern=r"\S+", max_features=limit)
        return cls(sorted(counts.fit(questions).vocabulary_))

    def transform(self, questions: list[str]) -> npt.NDArray[np.float64]:
        """Return ``[N, V]``."""
        found: npt.NDArray[np.float64] = self._counts.transform(questions).toarray()
        return found


def question_texts(examples: Examples) -> list[str]:
    """Return each question with a mark for the number of its choices; never the answer."""
    table = examples.table
    choices = [len(listed) for listed in table["choices"].to_list()]
    return [f"{text} <{n}-choices>" for text, n in zip(table["question"].to_list(), choices, strict=True)]


class TextLogistic:
    """L2-regularised logistic regression on features made from the question's words."""

    name: ClassVar[str]
    trains: ClassVar[bool] = True
    Params: ClassVar[type[TextSettings]] = TextSettings

    def __init__(self, params: TextSettings) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    def features(self, examples: Examples) -> npt.NDArray[np.float64]:
        """Return ``[N, F]``; here the words alone."""
        return self.words_.transform(question_texts(examples))

    def learn(self, examples: Examples, seed: int) -> None:
        """Fit words and weights."""
        from sklearn.linear_model import LogisticRegression

        check_trainable(examples, self.name)
        self.words_ = Words.learn(question_texts(examples), self.params.max_words)
        model = LogisticRegression(C=self.params.c, max_iter=1000, random_state=seed)
        model.fit(self.features(examples), examples.labels > 0)
        self.weights_ = np.concatenate([model.coef_[0], model.intercept_])

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        logits = self.features(examples) @ self.weights_[:-1] + self.weights_[-1]
        found: npt.NDArray[np.float32] = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return found

    def save(self, folder: Path) -> None:
        settings: dict[str, Any] = {
            "method": self.name,
            "params": self.params.model_dump(),
            "vocabulary": self.words_.vocabulary,
        }
        save_state(folder, settings, {"weights": self.weights_})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        found = cls(cls.Params(**settings["params"]))
        found.words_ = Words(settings["vocabulary"])
        found.weights_ = tensors["weights"]
        return found
