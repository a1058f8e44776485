"""Images are a function of family, split and index; splits share neither images nor scans."""

import numpy as np
import pytest

from relope.tiny.scenes.digits import scans
from relope.tiny.scenes.draw import FAMILIES, draw_scene
from relope.tiny.scenes.shift import FACTORS, STRENGTHS
from relope.tiny.scenes.vocabulary import QUESTIONS, words


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_drawn_the_same_again(family):
    for index in range(5):
        one, two = (draw_scene(family, "test", index) for _ in range(2))
        assert np.array_equal(one.pixels, two.pixels)
        assert one.facts == two.facts and one.shift == two.shift


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_and_neighbours_differ(family):
    drawn = [draw_scene(family, split, index).pixels.tobytes() for split in ("train", "test") for index in range(20)]
    assert len(set(drawn)) == 40


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_one_that_its_question_can_have(family):
    known = set(words())
    for index in range(60):
        scene = draw_scene(family, "validation", index)
        assert scene.pixels.shape == (64, 64, 3) and scene.pixels.dtype == np.uint8
        for kind, answer in scene.facts.answers.items():
            assert answer in QUESTIONS[kind][1]
        assert set(scene.facts.caption) <= known and set(scene.facts.trace) <= known


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shift_stays_within_its_strength(family):
    for index in range(60):
        shift = draw_scene(family, "train", index).shift
        assert 1 <= len(shift) <= 3 and set(shift) <= set(FACTORS[family])
        assert all(0 <= value <= min(1.5, STRENGTHS[family]) for value in shift.values())
    assert draw_scene(family, "train", 0, shifted=False).shift == {}


def test_handwritten_scans_are_held_out():
    used = {
        split: {scan for row in scans(split) for scan in row} for split in ("pretrain", "train", "validation", "test")
    }
    names = sorted(used)
    for place, one in enumerate(names):
        for two in names[place + 1 :]:
            assert not used[one] & used[two]
    assert all(row for split in names for row in scans(split))


def test_facts_are_true_of_a_clean_image():
    """The tallest bar's colour covers more rows than any other bar's."""
    for index in range(20):
        scene = draw_scene("bars", "test", index, shifted=False)
        pixels = scene.pixels.astype(int)
        saturated = (pixels.max(-1) - pixels.min(-1)) > 60
        heights = saturated[:61].sum(0)
        tallest = int(heights.argmax())
        answer = scene.facts.answers["tallest"]
        red, green, blue = np.median(pixels[:61, tallest][saturated[:61, tallest]], axis=0)
        hue = {"red": red > max(green, blue), "green": green > max(red, blue), "blue": blue > max(red, green)}
        if answer in hue:
            assert hue[answer]
