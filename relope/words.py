"""Words that messages and results share: a number with its noun, alternatives in a row."""

from collections.abc import Sequence


def counted(n: int, what: str, several: str = "") -> str:
    """Return a number with its noun: 1 part, 2 parts, 1,200 samples.

    Args:
        n: how many.
        what: the noun for one.
        several: the noun for more, where an s does not make it.
    """
    return f"{n:,} {what if n == 1 else several or f'{what}s'}"


def first_of(texts: Sequence[str], most: int, between: str = ", ") -> str:
    """Return the first texts in a row, and how many are left out: ``a, b and 3 more``.

    Args:
        texts: all of them.
        most: that are shown.
        between: two of them.
    """
    shown, left = between.join(texts[:most]), len(texts) - most
    if left <= 0:
        return shown
    return f"{shown}{between if between != ', ' else ' '}and {left} more"


def alternatives(words: Sequence[object]) -> str:
    """Return what is allowed, in a row: ``a, b or c``."""
    texts = [str(word) for word in words]
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
