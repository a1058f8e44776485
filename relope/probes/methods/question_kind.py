"""Control: logistic regression on the question's words alone, without looking at the model."""

from typing import ClassVar, Self

from relope.probes.examples import Examples
from relope.probes.protocol import Traits
from relope.probes.text import TextLogistic
from relope.types import Progress, no_progress

VERSION = 1


class Method(TextLogistic):
    """What can be known before the model is asked. A probe that does not beat it reads nothing."""

    name: ClassVar[str] = "question-kind"
    traits: ClassVar[Traits] = Traits(control=True, reads_answer=False)

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        self.learn(examples, seed)
        return self
