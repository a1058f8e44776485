"""What methods read of a question and its answer: words, pairs of words, and the controls' regression on them."""

import re
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from relope.errors import NotFoundError
from relope.probes.examples import Examples, check_trainable
from relope.probes.files import check_shapes, check_words, load_state, save_state
from relope.probes.logistic import Logistic, Matrix, sigmoid
from relope.probes.protocol import Params, Traits

_TOKEN = re.compile(r"\w+|[^\w\s]")


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

    def transform(self, questions: list[str]) -> Matrix:
        """Return ``[N, V]``, sparse."""
        return self._counts.transform(questions)


def question_texts(examples: Examples) -> list[str]:
    """Return each question with a mark for the number of its choices; never the answer.

    Raises:
        NotFoundError: the states come without questions.
    """
    table = examples.table
    if "question" not in table.columns:
        raise NotFoundError(f"{examples.store.label} hold no questions, which this method reads")
    choices = [len(listed) for listed in table["choices"].to_list()]
    return [f"{text} <{n}-choices>" for text, n in zip(table["question"].to_list(), choices, strict=True)]


def prompt_texts(examples: Examples) -> list[str]:
    """Return each question with its options, a line each; never the answer."""
    rows = examples.table.select("question", "choices").iter_rows()
    return ["\n".join([question, *choices]) for question, choices in rows]


def answered_texts(examples: Examples) -> list[tuple[str, str]]:
    """Return (question with its options, the small model's answer) of each example."""
    return list(zip(prompt_texts(examples), examples.table["response"].to_list(), strict=True))


def tokens(text: str, mark: str = "") -> list[str]:
    """Return the lower-case words and punctuation marks of a text, each with a mark before it."""
    return [f"{mark}{token}" for token in _TOKEN.findall(text.lower())]


class TextLogistic:
    """L2-regularised logistic regression on features made from the question's words."""

    name: ClassVar[str]
    traits: ClassVar[Traits] = Traits(control=True)
    Params: ClassVar[type[TextSettings]] = TextSettings

    def __init__(self, params: TextSettings) -> None:
        self.params = params

    def layers(self, layer: int) -> tuple[int, ...]:
        return ()

    @staticmethod
    def n_features(n_words: int) -> int:
        """Return F of a vocabulary."""
        return n_words

    def features(self, examples: Examples) -> Matrix:
        """Return ``[N, F]``; here the words alone."""
        return self.words_.transform(question_texts(examples))

    def learn(self, examples: Examples, seed: int) -> None:
        """Fit words and weights."""
        check_trainable(examples, self.name)
        self.words_ = Words.learn(question_texts(examples), self.params.max_words)
        self.model_ = Logistic.fit(self.features(examples), examples.labels, self.params.c, seed)

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return sigmoid(self.model_.logits(self.features(examples)))

    def save(self, folder: Path) -> None:
        settings: dict[str, Any] = {
            "method": self.name,
            "params": self.params.model_dump(),
            "vocabulary": self.words_.vocabulary,
        }
        save_state(folder, settings, {"weights": self.model_.weights})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        probe = cls(cls.Params(**settings["params"]))
        words = check_words(folder, settings["vocabulary"])
        check_shapes(folder, tensors, {"weights": [cls.n_features(len(words)) + 1]})
        probe.words_, probe.model_ = Words(words), Logistic(tensors["weights"])
        return probe
