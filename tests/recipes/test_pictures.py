"""docs/pictures: the files are what recipes/pictures.py draws, readable on light and on dark pages."""

import re
import xml.etree.ElementTree as ET

import pictures
import pytest


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_the_file_is_what_the_script_draws(name):
    drawn = pictures.PICTURES[name]()
    assert (pictures.FOLDER / f"{name}.svg").read_text(encoding="utf-8") == drawn, "python recipes/pictures.py"
    assert ET.fromstring(drawn)[0].text, "a picture has a title, which is read aloud"


def test_no_other_file_is_there():
    assert {path.stem for path in pictures.FOLDER.iterdir()} == set(pictures.PICTURES)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(scheme):
    """Contrast of at least 4.5, as WCAG 2.2 has it (1.4.3)."""
    light, dark = pictures.STYLE.split("@media")
    colours = dict(re.findall(r"--(\w+): (#\w{6})", light if scheme == "light" else dark))
    pairs = [(ink, ground) for ink in ("ink", "soft") for ground in ("ground", "fill", "pale", "rose")]
    for ink, ground in [*pairs, ("blue", "ground"), ("red", "ground")]:
        one, other = sorted((luminance(colours[ink]), luminance(colours[ground])))
        assert (other + 0.05) / (one + 0.05) >= 4.5, (scheme, ink, ground)


def test_words_are_read_on_a_telephone():
    """A page of 390 px shows a picture 343 px wide; its words are 10 px high at least."""
    sizes = [float(size) for size in re.findall(r"(?:font|font-size): ([\d.]+)px", pictures.STYLE)]
    assert len(sizes) == 2 and min(sizes) * 343 / pictures.WIDTH >= 10
