"""Layers, splits and models as a user may write them."""

import pytest

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.dataset import check_splits
from relope.extract.data.open import open_dataset
from relope.extract.engine import open_engine
from relope.extract.extraction import parse_layers
from relope.extract.model.card import open_card
from relope.extract.model.load import pick_device, pick_dtype
from relope.extract.recipe import make_manifest
from relope.spec import ExtractSpec
from relope.steps.extraction import extraction_of


@pytest.mark.parametrize(
    ("asked", "layers"),
    [
        ((), (3, 4)),
        (("2", "3"), (2, 3)),
        (("3", "2"), (2, 3)),
        (("0.5",), (3,)),
        (("0", "1"), (0, 1)),
        (("1.0",), (6,)),
    ],
)
def test_layers(asked, layers):
    assert parse_layers(asked, 6, 4) == layers


@pytest.mark.parametrize("asked", [("7",), ("x",), ("-1",), ("1.5",), ("0",)])
def test_wrong_layers_say_what_is_allowed(asked):
    with pytest.raises(InvalidInputError, match="layer ") as error:
        parse_layers(asked, 6, 4)
    assert "--layers" in error.value.hint


def test_splits():
    dataset = open_dataset("tiny")
    assert check_splits(dataset, ()) == ("train", "validation", "test")
    with pytest.raises(NotFoundError, match="did you mean 'train'"):
        check_splits(dataset, ("trian",))


RECIPES = {
    "97c2fafb797f9fcb4078cea6a7ae2f6aa821af8c53e78e4af67db76920fe2477": {},
    "28f4e3882bb49bf668cf2b444989874cb5b22d69fac319c98e5a8e748a059d00": {"model": "tiny-vl-large"},
    "64451dc1fbb879f1e88d9fccc3002f4032c04c95edb54d7f3079ec91b193405b": {
        "layers": ("2", "0.5"),
        "tokens": "lean",
        "max_new_tokens": 4,
        "samples": 2,
        "trace_tokens": 16,
        "seed": 3,
        "p_true": True,
        "store_dtype": "bfloat16",
        "split": ("test",),
        "limit": 7,
        "batch_size": 3,
        "grader": "exact",
        "codec": "zstd",
    },
    "a4ed08cc5010fd928a4a6b547d72e8655dffef8218c110255973836a19033152": {"max_new_tokens": 0, "seed": 5},
    "ed682486507abfb17f42ce84968abdd1e5c217aa640b5920746bb607c81c894d": {"text_only": True},
    "86a14008db79b4c81d2a95c7401ce84f1ad615bfadaf9e2df269b44ac14be41a": {"text_only": True, "captions": "c.jsonl"},
    "fdf82ea876cdaa31d66a6a2d2d8cdcb39da258ff4a8e64acec2641aba60d6ea8": {"perturb": "noise"},
    "43c8d17def30207943d32a32a634b7666229c65200ceccd3db19796a437ed7f2": {"perturb": "jpeg:30", "dataset": "tiny-bars"},
}
"""Recipe id → what was asked for, as version 0.1.0 gave it: with another id, no store made then could grow any more."""


@pytest.mark.parametrize("recipe_id", RECIPES)
def test_a_recipe_keeps_its_id_from_version_to_version(recipe_id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text('{"id": "q1", "caption": "a red square"}\n')
    asked = {"model": "tiny-vl", "dataset": "tiny", "device": "cpu", "dtype": "float32", **RECIPES[recipe_id]}
    extraction = extraction_of(ExtractSpec(**asked))
    backbone = extraction.model.open()
    backbone.identity["image_processor"] = "Qwen2VLImageProcessor"  # what a release of transformers calls it
    assert make_manifest(backbone, extraction, open_engine("local", extraction, {})).recipe_id == recipe_id


def test_models_are_names_folders_or_hub_ids(tmp_path):
    assert open_card("tiny-vl").source == "package:tiny-vl"
    (tmp_path / "config.json").write_text("{}")
    assert open_card(str(tmp_path)).source == str(tmp_path)
    assert open_card("owner/model").source == "owner/model"
    with pytest.raises(NotFoundError, match="did you mean 'tiny-vl'"):
        open_card("tiny-v")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NotFoundError, match=r"no config\.json"):
        open_card(str(empty))


def test_devices_and_dtypes():
    assert str(pick_device("cpu")) == "cpu"
    with pytest.raises(InvalidInputError, match="unknown device"):
        pick_device("gpu")
    with pytest.raises(InvalidInputError, match="unknown dtype 'float16'"):
        pick_dtype("float16", pick_device("cpu"))
