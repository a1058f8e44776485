"""Sampled reasoning traces: the answers that the grader read in each of them."""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

from relope.errors import NotFoundError
from relope.probes.confidence import Untrained
from relope.probes.protocol import Examples, Params
from relope.store import RowReader

Style = Literal["direct", "chain"]
Answers = list[list[str]]
"""One list a sample: the parsed answer of each trace, ``""`` where none could be read."""


class StyleSettings(Params):
    """Settings of the methods that read the traces of one style."""

    style: Style = "direct"


class FromTraces(Untrained):
    """Base of the methods that read sampled traces instead of hidden states."""

    needs: ClassVar[str] = "--samples 5"
    reads_verdicts: ClassVar[bool] = True

    def answers(self, examples: Examples, style: Style) -> Answers:
        """Return the parsed answers of all traces of a style.

        Raises:
            NotFoundError: the store has no traces, or its verdicts do not cover them.
        """
        if f"traces_{style}" not in examples.store.samples.columns:
            raise lacking(examples.store, self.name, "sampled traces", self.needs)
        column = f"parsed_{style}"
        verdicts = examples.verdicts
        if verdicts is None or column not in verdicts.columns or verdicts[column].null_count():
            path = examples.store.path
            raise NotFoundError(
                f"{self.name} needs a verdict on every sampled trace, which the verdicts of {path} lack; "
                f"run `relope grade --store {path}` again"
            )
        return [list(traces) for traces in verdicts[column].to_list()]


def lacking(store: RowReader, name: str, what: str, flag: str) -> NotFoundError:
    """Build the error for what only another extraction can add."""
    path = store.path
    new = path.with_name(f"{path.stem}-{flag.split()[0].removeprefix('--')}{path.suffix}")
    return NotFoundError(
        f"{name} needs {what}, which {path} does not have; extract again with {flag} into a new --out, e.g. --out {new}"
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
