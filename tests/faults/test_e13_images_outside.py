"""E13: a data file brings in no image from outside its folder unless that is allowed."""

import json

import pytest
from mini_hub import png
from own_data import lines, parquet, read

from relope import steps
from relope.errors import InvalidInputError
from relope.extract.data.flaws import find_flaws
from relope.extract.data.open import open_dataset
from relope.spec import CaptionSpec, ExtractSpec, PlanSpec
from relope.steps.reopen import recorded_dataset
from relope.store import open_store

ROW = {"id": "q", "question": "What?", "answer": "x", "split": "test"}


@pytest.fixture
def theirs(tmp_path):
    """A folder of a stranger's data, beside a picture that is none of it."""
    (tmp_path / "secret.png").write_bytes(png("red"))
    folder = tmp_path / "theirs"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(png("blue"))
    (folder / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "images" / "near.png").symlink_to("a.png")
    (folder / "away").symlink_to(tmp_path)
    return folder


OUTSIDE = {
    "above": lambda folder: "../secret.png",
    "around": lambda folder: "images/../../secret.png",
    "absolute": lambda folder: str(folder.parent / "secret.png"),
    "a link": lambda folder: "images/link.png",
    "a linked folder": lambda folder: "away/secret.png",
    "the system's": lambda folder: "/etc/hostname",
    "not there": lambda folder: "../nothing.png",
}
INSIDE = {
    "below": lambda folder: "images/a.png",
    "absolute": lambda folder: str(folder / "images" / "a.png"),
    "around": lambda folder: "images/../images/a.png",
    "a link": lambda folder: "images/near.png",
}
FORMS = {
    "image": lambda path: {"image": path},
    "images": lambda path: {"images": ["images/a.png", path]},
    "dict": lambda path: {"image": {"path": path, "bytes": None}},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("place", OUTSIDE.values(), ids=OUTSIDE)
def test_e13_an_image_outside_the_folder_is_refused(theirs, place, form):
    path = lines(theirs / "q.jsonl", [{**ROW, **form(place(theirs))}])
    for ref in (path, theirs):
        with pytest.raises(InvalidInputError, match=r"in line 1 of q\.jsonl names .* outside") as error:
            open_dataset(str(ref))
        assert "--allow-outside" in error.value.hint and len(error.value.lines.splitlines()) == 2
    assert read(path, allow_outside=True)


@pytest.mark.parametrize("place", INSIDE.values(), ids=INSIDE)
def test_e13_what_lies_below_the_folder_is_read(theirs, place):
    (sample,) = read(lines(theirs / "q.jsonl", [{**ROW, "image": place(theirs)}])).values()
    assert sample.images[0].open().getpixel((0, 0)) == (0, 0, 255)


def test_e13_a_folder_of_files_is_one_data_set(theirs):
    (theirs / "data").mkdir()
    path = lines(theirs / "data" / "q.jsonl", [{**ROW, "image": "../images/a.png"}])
    assert find_flaws(list(read(theirs).values()), text_only=False)[0] == []
    with pytest.raises(InvalidInputError, match="outside"):
        read(path)


def test_e13_so_it_is_in_a_table(theirs):
    with pytest.raises(InvalidInputError, match=r"in row 1 of q\.parquet names '\.\./secret\.png'"):
        read(parquet(theirs / "q.parquet", [{**ROW, "image": "../secret.png"}]))


def test_e13_a_data_file_that_is_a_link_to_outside_is_refused(theirs):
    other = lines(theirs.parent / "other.jsonl", [ROW])
    (theirs / "q.jsonl").symlink_to(other)
    with pytest.raises(InvalidInputError, match=r"q\.jsonl is a link to outside"):
        read(theirs)
    assert set(read(theirs, allow_outside=True)) == {"q"}


def test_e13_a_link_that_is_changed_under_a_run_is_not_followed(theirs):
    (sample,) = read(lines(theirs / "q.jsonl", [{**ROW, "image": "images/a.png"}])).values()
    (theirs / "images" / "a.png").unlink()
    (theirs / "images" / "a.png").symlink_to(theirs.parent / "secret.png")
    with pytest.raises(InvalidInputError, match="outside"):
        sample.images[0].open()


def test_e13_every_command_refuses_and_a_store_remembers_what_was_allowed(theirs, tmp_path):
    path = lines(theirs / "q.jsonl", [{**ROW, "image": "../secret.png"}])
    asked = {"model": "tiny-vl", "dataset": str(path), "device": "cpu", "out": tmp_path / "s.zarr"}
    for spec in (ExtractSpec, PlanSpec, CaptionSpec):
        with pytest.raises(InvalidInputError, match="outside"):
            steps.run(spec(**asked))
    assert not (tmp_path / "s.zarr").exists()
    steps.run(ExtractSpec(**asked, max_new_tokens=0, allow_outside=True))
    with open_store(tmp_path / "s.zarr") as store:
        assert json.dumps(store.manifest.recorded["allow_outside"]) == "true"
        assert recorded_dataset(store).load("test", None)[0].images
