"""The ``asked`` digest: what was asked of a model, by which samples of two places are known to be the same.

It covers question, choices, hint and images, and neither how the model was prompted nor what counts as right.
Each has 16 of its 64 hex digits, so that what differs can be named, and so that a study of other images may
still hold the questions against one another.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from relope.provenance import digest

ASKED = "asked"
"""The column of sample tables, scores and reports that holds the digest."""

PARTS = ("question", "choices", "hint", "images")
_DIGITS = 16
_UNKNOWN = "-" * _DIGITS
"""Of what an older store does not tell: it differs from nothing."""


@dataclass(frozen=True)
class AskedOtherwise:
    """A sample that was asked something else in two places.

    Attributes:
        id: of the sample.
        parts: what differs.
        n: samples of which something differs.
    """

    id: str
    parts: tuple[str, ...]
    n: int

    def __str__(self) -> str:
        """Return which and what: ``17's question and images differ``."""
        alone = len(self.parts) == 1 and not self.parts[0].endswith("s")
        return f"{self.id}'s {' and '.join(self.parts)} {'differs' if alone else 'differ'}"


def asked_digest(
    question: str,
    choices: Sequence[str],
    hint: str,
    images: Sequence[str],
    said_before: Sequence[Sequence[str]] = (),
) -> str:
    """Return the digest of what is asked, 64 hex digits.

    Args:
        question: its own text.
        choices: the options, in their order.
        hint: text put before the question.
        images: digest of each clean image, in their order.
        said_before: role and text of each turn before the question; they count as part of it.
    """
    words = [question, [list(turn) for turn in said_before]] if said_before else question
    return "".join(digest(value)[:_DIGITS] for value in (words, list(choices), hint, list(images)))


def asked_column(samples: pl.DataFrame) -> pl.Series:
    """Return ``[N]`` digests of the samples of a store, also of one that an older relope wrote."""
    if ASKED in samples.columns and not samples[ASKED].null_count():
        return samples[ASKED]
    told = samples[ASKED].to_list() if ASKED in samples.columns else [None] * len(samples)
    columns = [
        samples[name].to_list() if name in samples.columns else [None] * len(samples)
        for name in ("question", "choices", "image_digests")
    ]
    rows = zip(told, *columns, strict=True)
    return pl.Series(ASKED, [known or _pieced_together(*row) for known, *row in rows], pl.String)


def content_keys(samples: pl.DataFrame) -> list[str | None]:
    """Return ``[N]`` digests of question, choices and images: samples of two places that share one are the same.

    None where an older store does not tell one of them. A hint counts for nothing here: whoever has seen the answer
    without it has seen the answer.
    """
    parts = [_cut(asked) for asked in asked_column(samples)]
    return [None if _UNKNOWN in (*key[:2], key[3]) else "".join((*key[:2], key[3])) for key in parts]


def images_shown(samples: pl.DataFrame) -> list[list[str]]:
    """Return ``[N]`` the digests of each sample's images; none where an older store does not tell them."""
    told = samples["image_digests"].to_list() if "image_digests" in samples.columns else [None] * len(samples)
    return [images or [] for images in told]


def question_key(asked: str) -> str | None:
    """Return the part of a digest that covers question and images alone; None where one of them is not known."""
    question, _, _, images = _cut(asked)
    return None if _UNKNOWN in (question, images) else question + images


def differing_part(first: str, second: str, parts: Collection[str]) -> str:
    """Return the first of some parts in which two digests differ, ``""`` where none does or it is not known."""
    return next((name for name in _differing(first, second, ()) if name in parts), "")


def _pieced_together(question: str | None, choices: list[str] | None, images: list[str] | None) -> str:
    known = [_UNKNOWN if value is None else digest(value)[:_DIGITS] for value in (question, choices, images)]
    return "".join([*known[:2], _UNKNOWN, known[2]])


def first_difference(ours: pl.DataFrame, theirs: pl.DataFrame, free: Collection[str] = ()) -> AskedOtherwise | None:
    """Return the first sample of both tables that was asked something else in each, None where there is none.

    Args:
        ours: columns ``id`` and ``asked``; decides what is first.
        theirs: likewise; ids that only one table has are passed over.
        free: parts that may differ.
    """
    both = ours.select("id", ASKED).join(theirs.select("id", other=ASKED), on="id", maintain_order="left")
    unequal = both.filter(both[ASKED] != both["other"]).iter_rows()
    differing = [
        (name, parts)
        for name, ours_asked, theirs_asked in unequal
        if (parts := _differing(ours_asked, theirs_asked, free))
    ]
    return AskedOtherwise(*differing[0], len(differing)) if differing else None


def _differing(first: str, second: str, free: Collection[str]) -> tuple[str, ...]:
    parts = [part for part in zip(PARTS, _cut(first), _cut(second), strict=True) if part[0] not in free]
    return tuple(
        name
        for name, our_part, their_part in parts
        if our_part != their_part and _UNKNOWN not in (our_part, their_part)
    )


def _cut(digits: str) -> list[str]:
    return [digits[start : start + _DIGITS] for start in range(0, _DIGITS * len(PARTS), _DIGITS)]
