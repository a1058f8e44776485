"""The splits of a user's own file: which one a name means, and what is to be said of how many samples each has."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relope.types import Sample
from relope.words import counted

ORDER = ("train", "validation", "test")
"""Splits that have a use of their own, in the order in which they are extracted."""

ALIASES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}
"""Names that are taken to mean one of them."""

FEW = 20
"""Fewer test samples than that cannot have ten of both right and wrong answers, which an honest verdict needs."""


@dataclass
class SplitNames:
    """The names of splits that the rows of a data set give, noted as they pass by.

    Attributes:
        written: split → other ways in which rows write it, capitals and spaces about it among them.
    """

    written: dict[str, set[str]] = field(default_factory=dict)

    def meant(self, name: str) -> str:
        """Return the split that a row's name means: ``Test`` and ``test `` are ``test``, another name is its own."""
        plain = name.strip().casefold()
        known = ALIASES.get(plain, plain)
        split = known if known in ORDER else name.strip()
        if name not in (split, plain):
            self.written.setdefault(split, set()).add(name)
        return split

    def notes(self, samples: Sequence[Sample], shares: bool) -> list[str]:
        """Return what a user should know of the splits: how many samples each has, and where those are too few.

        Args:
            samples: with their splits.
            shares: whether we cut these, since the data set names none.
        """
        counts = split_counts(samples)
        folds = f"`relope fit … --folds 5 --split {','.join(counts)}` scores every sample out of fold instead"
        n_test, has_few = counts.get("test", 0), counts.get("test", 0) < FEW
        if shares and n_test:
            n_train = counted(len(samples) - n_test, "sample")
            by = "image" if any(sample.images for sample in samples) else "question"
            cut = f"no column 'split': cut by {by}, train has {n_train} and test {n_test}"
            return [f"{cut}, too few to tell methods apart; {folds}" if has_few else cut]
        notes = [f"splits: {', '.join(self._told(name, n) for name, n in counts.items())}"]
        if not n_test:
            return [*notes, f"no sample is in the split test, on which routers are evaluated; {folds}"]
        few = f"the split test has {counted(n_test, 'sample')}, too few to tell methods apart; {folds}"
        return [*notes, few] if has_few else notes

    def _told(self, name: str, n: int) -> str:
        written = ", ".join(repr(other) for other in sorted(self.written.get(name, ())))
        also = f"written {written}" if written else f"did you mean {near}?" if (near := guessed(name)) else ""
        return f"{name} {n:,}" + (f" ({also})" if also else "")


def split_counts(samples: Iterable[Sample]) -> Mapping[str, int]:
    """Return split → how many samples it has; those with a use of their own first."""
    counts = Counter(sample.split for sample in samples)
    return {name: counts[name] for name in (*(n for n in ORDER if n in counts), *sorted(counts.keys() - {*ORDER}))}


def guessed(name: str) -> str:
    """Return the split that another name may have been meant as, or ``""``."""
    if name in ORDER:
        return ""
    near = difflib.get_close_matches(name.casefold(), [*ORDER, *ALIASES], n=1, cutoff=0.75)
    return ALIASES.get(near[0], near[0]) if near else ""
