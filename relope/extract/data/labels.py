"""What a user's own file says of the model's answers, and samples of which nobody knows the right one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from relope.types import Sample

LABEL = "correct"
"""Column, and key of a sample's ``meta``: whether a person says that the model's answer is right; None = not said."""

UNLABELLED = "unlabelled"
"""Key of a sample's ``meta``: it has no gold answer, and that is no flaw."""

ALLOWED = "true or false (or 1 or 0, yes or no, right or wrong, or nothing)"
_SAID = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "right", "correct"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "wrong", "incorrect"), False),
    **dict.fromkeys(("", "none", "null", "nan"), None),
}


def label_in(cells: Mapping[str, Any]) -> dict[str, bool | None]:
    """Return what a sample's ``meta`` keeps of a row's label; nothing where the row has no such column.

    Raises:
        ValueError: it is neither yes nor no.
    """
    if LABEL not in cells:
        return {}
    said = str("" if cells[LABEL] is None else cells[LABEL]).strip().casefold()
    if said not in _SAID:
        raise ValueError(f"{said!r} is neither yes nor no")
    return {LABEL: _SAID[said]}


def unlabelled(samples: Sequence[Sample], answered: Collection[str]) -> list[Sample]:
    """Return samples with those marked that need no gold answer.

    They are those that a person labels, and those of a split in which no row gives one: traffic. Beside answered
    ones an empty answer is a flaw.

    Args:
        samples: of a data set.
        answered: splits in which a row gives an answer.
    """
    free = [not sample.answers and (LABEL in sample.meta or sample.split not in answered) for sample in samples]
    return [
        replace(sample, meta={**sample.meta, UNLABELLED: True}) if is_free else sample
        for sample, is_free in zip(samples, free, strict=True)
    ]
