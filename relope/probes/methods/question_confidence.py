"""Control: the question's words crossed with the answer's probability."""

from typing import ClassVar, Self

from relope.probes.confidence import answer_odds
from relope.probes.examples import Examples
from relope.probes.logistic import Matrix, beside
from relope.probes.protocol import Traits
from relope.probes.text import TextLogistic
from relope.types import Progress, no_progress

VERSION = 1


class Method(TextLogistic):
    """Lets every kind of question have its own slope on the answer's log-odds.

    A probe that does not beat it knows no more than the question and the model's own confidence.
    """

    name: ClassVar[str] = "question-confidence"
    traits: ClassVar[Traits] = Traits(control=True, of_answer=frozenset())

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        self.learn(examples, seed)
        return self

    @staticmethod
    def n_features(n_words: int) -> int:
        """Return F: the words, the odds, and each word times the odds."""
        return 2 * n_words + 1

    def features(self, examples: Examples) -> Matrix:
        words, odds = super().features(examples), answer_odds(examples, self.name)
        return beside(words, odds, words.multiply(odds))
