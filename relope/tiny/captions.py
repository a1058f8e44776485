"""The text-only variant: a caption stands in for the image, with a difficulty of its own.

Exact captions are answered almost always, so their labels would be degenerate. A caption's
difficulty drops words, misspells them, puts them in another order and adds a clause about
something else.
"""

import random
from collections.abc import Sequence

from relope.tiny.scenes.vocabulary import COLORS, NUMBERS, PLACES, SHAPES

STRENGTH = 0.7
"""Scales every difficulty; set on accuracy alone and frozen before any probe was fitted."""


def caption(exact: Sequence[str], rng: random.Random) -> str:
    """Return a caption of graded difficulty, ending in a full stop.

    Args:
        exact: the words of the exact description.
        rng: the image's own generator of caption difficulty.
    """
    words, difficulty = list(exact), rng.random() * STRENGTH
    if rng.random() < difficulty:
        words = _reordered(words, rng)
    words = [_misspelt(word, rng) if rng.random() < 0.25 * difficulty else word for word in words]
    words = [word for word in words if rng.random() >= 0.2 * difficulty]
    if rng.random() < difficulty:
        clause = _clause(rng)
        words = [*clause, ",", *words] if rng.random() < 0.5 else [*words, ",", *clause]
    return " ".join([*words, "."])


def _reordered(words: list[str], rng: random.Random) -> list[str]:
    head, tail = words[0], words[1:]
    rng.shuffle(tail)
    return [head, *tail]


def _misspelt(word: str, rng: random.Random) -> str:
    if len(word) < 2:
        return word + word
    at = rng.randrange(len(word) - 1)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _clause(rng: random.Random) -> list[str]:
    about = rng.choice((COLORS, SHAPES, PLACES, NUMBERS[1:13]))
    return ["near", "another", rng.choice(about)]
