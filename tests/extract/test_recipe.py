"""Layers, splits and models as a user may write them."""

import pytest

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.open import open_dataset
from relope.extract.model.card import open_card
from relope.extract.model.load import pick_device, pick_dtype
from relope.extract.recipe import check_splits, parse_layers


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
    with pytest.raises(InvalidInputError, match="--layers"):
        parse_layers(asked, 6, 4)


def test_splits():
    dataset = open_dataset("tiny")
    assert check_splits(dataset, ()) == ("train", "validation", "test")
    with pytest.raises(NotFoundError, match="did you mean 'train'"):
        check_splits(dataset, ("trian",))


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
