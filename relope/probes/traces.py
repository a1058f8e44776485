"""Sampled reasoning traces: the answers that the grader read in each of them."""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

from relope.errors import NotFoundError
from relope.probes.confidence import Untrained
from relope.probes.examples import Examples
from relope.probes.protocol import Params, Traits
from relope.store import RowReader

Style = Literal["direct", "chain"]
Answers = list[list[str]]
"""One list a sample: the parsed answer of each trace, ``""`` where none could be read."""


class StyleSettings(Params):
    """Settings of the methods that read the traces of one style."""

    style: Style = "direct"


class FromTraces(Untrained):
    """Base of the methods that read sampled traces instead of hidden states."""

    traits: ClassVar[Traits] = Traits(trains=False, reads_grades=True, needs={"samples": 5})

    def answers(self, examples: Examples, style: Style) -> Answers:
        """Return the parsed answers of all traces of a style.

        Raises:
            NotFoundError: the store has no traces, or its grades do not cover them.
        """
        if f"traces_{style}" not in examples.store.samples.columns:
            raise lacking(examples.store, self.name, "sampled traces", self.traits)
        column = f"parsed_{style}"
        grades = examples.grades
        if grades is None or column not in grades.columns or grades[column].null_count():
            label = examples.store.label
            raise NotFoundError(
                f"{self.name} needs every sampled trace graded, which the grades of {label} lack",
                hint=f"run `relope grade --store {label}` again",
            )
        return [list(traces) for traces in grades[column].to_list()]


def lacking(store: RowReader, name: str, what: str, traits: Traits) -> NotFoundError:
    """Build the error for what only another extraction can add."""
    return NotFoundError(
        f"{name} needs {what}, which {store.label} does not have",
        hint=f"extract again with {traits.flags} into a new --out",
    )


def majority(answers: Sequence[str]) -> tuple[str, int]:
    """Return the most frequent parsed answer and how often it came; ``("", 0)`` if none was parsed.

    Choice: of equally frequent answers the one sampled first.
    """
    counts = Counter(answer for answer in answers if answer)
    return counts.most_common(1)[0] if counts else ("", 0)


def cluster_shares(answers: Sequence[str]) -> list[float]:
    """Return the share of every cluster of equal answers.

    Choice: each unparsed trace is a cluster of its own, since it agrees with nothing.
    """
    counts = Counter(answer for answer in answers if answer)
    unparsed = len(answers) - counts.total()
    return [count / len(answers) for count in [*counts.values(), *[1] * unparsed]]
