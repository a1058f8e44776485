"""The tiny benchmark as a data set: sizes, splits, multiple choice, captions."""

import random

import pytest

from relope.errors import NotFoundError
from relope.extract.data.open import open_dataset
from relope.tiny.benchmark import CHOICE_SHARE, SIZES, samples
from relope.tiny.captions import caption
from relope.tiny.scenes.draw import FAMILIES, draw_scene


def true_answer(sample):
    """Read the gold from the image's facts, past the option letters."""
    family, split, index, kind = sample.id.split("-", 3)
    return draw_scene(family, split, int(index)).facts.answers[kind]


def test_sizes_and_limit():
    dataset = open_dataset("tiny-clock")
    assert dataset.splits == ("train", "validation", "test")
    assert len(dataset.load("validation", None)) == SIZES["validation"]
    assert [s.id for s in dataset.load("validation", 7)] == [s.id for s in dataset.load("validation", None)[:7]]


def test_the_demo_asks_enough_test_questions():
    assert SIZES["test"] * len(FAMILIES) >= 3000


def test_groups_never_cross_splits():
    groups = [{s.group for s in samples("tiny", FAMILIES, split, 500)} for split in SIZES]
    assert not groups[0] & groups[1] and not groups[1] & groups[2] and not groups[0] & groups[2]


def test_multiple_choice_is_a_share_and_its_gold_is_right():
    asked = samples("tiny", FAMILIES, "train", 2000)
    choice = [s for s in asked if s.choices]
    assert abs(len(choice) / len(asked) - CHOICE_SHARE) < 0.03
    for sample in choice:
        place = "ABCD".index(sample.answers[0])
        assert sample.choices[place] == true_answer(sample)
        assert len(set(sample.choices)) == len(sample.choices)
    letters = [s.answers[0] for s in choice]
    assert all(letters.count(letter) / len(letters) < 0.5 for letter in "ABCD")


def test_unknown_split_is_named():
    with pytest.raises(NotFoundError, match="unknown split 'dev'"):
        open_dataset("tiny").load("dev", 1)


def test_caption_difficulty_ranges_from_exact_to_hard():
    exact = ("bars", "red", "12", "blue", "30")
    drawn = [caption(exact, random.Random(seed)) for seed in range(300)]
    untouched = sum(text == "bars red 12 blue 30 ." for text in drawn)
    assert 20 < untouched < 200
    assert all(text.endswith(" .") or text == "." for text in drawn)
