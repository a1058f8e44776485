"""Perturbations: the same for the same sample, of the strength that was asked for, part of the recipe."""

import io

import numpy as np
import pytest
from PIL import Image

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.open import open_dataset
from relope.extract.data.perturb import DEFAULTS, Perturbation, apply, parse, perturbed
from relope.spec import ExtractSpec
from relope.steps.reopen import open_streams
from relope.store import ActivationStore


@pytest.fixture
def gray():
    """A plain gray image."""
    return Image.new("RGB", (128, 128), (128, 128, 128))


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_deterministic_per_sample_and_place(kind, questions):
    once, again = (perturbed(questions[0], parse(kind)) for _ in range(2))
    clean = questions[0].images[0]
    assert once.images[0].open().tobytes() == again.images[0].open().tobytes() != clean.open().tobytes()
    assert once.images[0].digest == clean.digest and once.group == questions[0].group


def test_noise_has_the_strength_and_differs_between_samples(gray):
    noise = Perturbation("noise", 0.12)
    one, two = (np.asarray(apply(gray, noise, name), np.float64) for name in ("a/0", "b/0"))
    assert abs((one - 128).std() / 255 - 0.12) < 0.002 and abs((one - 128).mean()) < 0.5
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02
    assert np.array_equal(apply(gray, Perturbation("noise", 0.0), "a/0"), gray)


def test_jpeg_is_what_pillow_writes_at_that_quality(gray):
    image = apply(gray, Perturbation("noise", 0.3), "x")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=15)
    expected = Image.open(buffer).convert("RGB").tobytes()
    assert apply(image, parse("jpeg"), "x").tobytes() == expected != image.tobytes()


def test_blur_keeps_the_mean_and_takes_the_detail(gray):
    image = apply(gray, Perturbation("noise", 0.3), "x")
    before, after = np.asarray(image, np.float64), np.asarray(apply(image, parse("blur"), "x"), np.float64)
    assert abs(before.mean() - after.mean()) < 1.0
    # white noise through a Gaussian of σ = 2 keeps 1 / (2 σ √π) of its standard deviation
    assert abs(after.std() / before.std() - 1 / (4 * np.pi**0.5)) < 0.03


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("fog", NotFoundError, "unknown perturbation 'fog'"),
        ("nois", NotFoundError, "did you mean 'noise'"),
        ("noise:x", InvalidInputError, "strength 'x' is no number"),
        ("noise:-1", InvalidInputError, "numbers from 0 to 1"),
        ("noise:nan", InvalidInputError, "numbers from 0 to 1"),
        ("jpeg:0", InvalidInputError, "from 1 to 95"),
        ("jpeg:12.5", InvalidInputError, "whole numbers"),
        ("blur:", InvalidInputError, "no number"),
    ],
)
def test_mistakes(text, error, says):
    with pytest.raises(error, match=says):
        parse(text)


def test_defaults():
    assert [parse(kind).strength for kind in ("noise", "jpeg", "blur")] == [0.12, 15, 2]
    assert parse("noise:0.5") == Perturbation("noise", 0.5)


def test_a_perturbed_store_is_another_recipe_over_the_same_groups(tmp_path, store_path):
    common = {"model": "tiny-vl", "dataset": "tiny", "split": ("test",), "limit": 20, "device": "cpu"}
    for name in ("noise:0.5", "noise:0.4"):
        out = tmp_path / f"{name[-1]}.zarr"
        steps.run(ExtractSpec(**common, perturb=name, out=out))
    with ActivationStore.open(store_path) as clean, ActivationStore.open(tmp_path / "5.zarr") as noisy:
        assert noisy.manifest.identity["perturbation"] == {"kind": "noise", "strength": 0.5}
        assert "perturbation" not in clean.manifest.identity
        assert clean.recipe_id != noisy.recipe_id
        pairs = noisy.samples.join(clean.samples, on="id", suffix="_clean")
        assert len(pairs) == 20 and (pairs["group"] == pairs["group_clean"]).all()
        assert (pairs["image_digests"] == pairs["image_digests_clean"]).all()
        assert (pairs["content"] != pairs["content_clean"]).all()
    streams = open_streams(ActivationStore.open(tmp_path / "5.zarr"))
    name = next(iter(open_dataset("tiny").load("test", 1))).id
    clean_sample = open_dataset("tiny").load("test", 1)[0]
    assert streams.samples[name].images[0].open().tobytes() != clean_sample.images[0].open().tobytes()
    with pytest.raises(Exception, match=r"perturbation.strength was 0.5, now 0.4"):
        steps.run(ExtractSpec(**common, perturb="noise:0.4", out=tmp_path / "5.zarr"))
