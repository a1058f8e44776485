"""Labels that do not touch, and short texts."""

import itertools

import numpy as np

from relope.evaluate.pages import wording
from relope.evaluate.pages.gallery import LONGEST, shorten
from relope.evaluate.pages.svg import spread


def test_labels_keep_their_distance_and_their_order():
    rng = np.random.default_rng(0)
    for n in (1, 2, 9, 20):
        wanted = (rng.random(n) * 300).tolist()
        placed = spread(wanted, 15, 0, 300)
        ordered = [placed[index] for index in np.argsort(wanted, kind="stable")]
        assert all(b - a >= 15 - 1e-9 for a, b in itertools.pairwise(ordered))
        assert min(placed) >= -1e-9 and max(placed) <= 300 + 1e-9


def test_labels_that_have_room_stay():
    assert spread([100.0, 10.0, 50.0], 15, 0, 300) == [100.0, 10.0, 50.0]
    assert spread([50.0, 50.0], 10, 0, 300) == [45.0, 55.0]


def test_numbers_in_words():
    assert wording.signed(-0.0312) == "\N{MINUS SIGN}0.031" and wording.signed(0.5, 1) == "+0.5"
    assert wording.p_value(0.0002) == "p < 0.001" and wording.p_value(0.0312) == "p = 0.031"
    assert wording.percent(None) == "—" and wording.percent(0.125) == "12.5\N{NARROW NO-BREAK SPACE}%"
    assert [wording.seconds(value) for value in (None, 0.01, 8.44, 31.2, 412.0)] == [
        "—",
        "< 0.1 s",
        "8.4 s",
        "31 s",
        "7 min",
    ]
    assert wording.listed(["a"]) == "a" and wording.listed(["a", "b", "c"]) == "a, b and c"


def test_long_texts_are_cut():
    assert len(shorten("word " * 100)) <= LONGEST and shorten("a\n  b") == "a b" and shorten(None) == "(empty)"
