"""A3: both models are judged by one grader and version, else both are named."""

import shutil

import pytest
from stepping import report_of, step

from relope.errors import InvalidInputError
from relope.store import open_store
from relope.store.grade_files import orders
from relope.store.grades import read_grades


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The large model's answers to the test questions."""
    out = tmp_path_factory.mktemp("large") / "large.zarr"
    step("extract", model="tiny-vl-large", dataset="tiny", split="test", limit=80, out=out, device="cpu", tokens="lean")
    return out


@pytest.fixture
def small(store_path, tmp_path):
    out = shutil.copytree(store_path, tmp_path / "tiny.zarr")
    step("predict", router="logprob", store=out)
    return out


def test_a3_the_large_store_is_read_by_the_small_ones_grader(small, large, tmp_path):
    step("grade", store=small, grader="exact")
    (theirs,) = orders(large)
    with pytest.raises(
        InvalidInputError, match=rf"tiny.zarr is judged by exact@\d+, but .*large.zarr has grades by {theirs}"
    ):
        step("evaluate", store=small, large_store=large, bootstrap=100, out=tmp_path / "report")
    both = shutil.copytree(large, tmp_path / "large.zarr")
    step("grade", store=both, grader="exact")
    step("grade", store=both, grader="auto")  # counts there, and is not what the small one is judged by
    step("evaluate", store=small, large_store=both, bootstrap=100, out=tmp_path / "report")
    exact = next(name for name in orders(both) if name.startswith("exact@"))
    with open_store(both) as store:
        accuracy = read_grades(store, exact).table["correct"].mean()
    assert report_of(tmp_path / "report")["hybrid"]["large_accuracy"] == pytest.approx(accuracy)
    step("evaluate", store=small, large_store=both, grades=theirs, bootstrap=100, out=tmp_path / "auto")
    auto = report_of(tmp_path / "auto")
    with open_store(both) as store:
        accuracy = read_grades(store, theirs).table["correct"].mean()
    assert auto["hybrid"]["large_accuracy"] == pytest.approx(accuracy) and auto["provenance"]["grader"] == theirs


def test_a3_a_router_learns_from_both_by_one_grader(small, large, tmp_path):
    step("grade", store=small, grader="exact")
    asked = {"method": "routellm-sw", "store": small, "split": "test", "large_store": large, "out": tmp_path / "r"}
    with pytest.raises(InvalidInputError, match=r"judged by exact@\d+, but .*large.zarr has grades by auto@"):
        step("fit", **asked)
    assert not (tmp_path / "r").exists()
    (theirs,) = orders(large)
    assert step("fit", **asked, grades=theirs).facts["grader"] == theirs


def test_a3_frozen_labels_and_the_large_store_too(small, large, store_path, tmp_path):
    labels = shutil.copytree(store_path, tmp_path / "labels.zarr")
    step("grade", store=labels, grader="exact")
    with pytest.raises(InvalidInputError, match=r"labels.zarr is judged by exact@\d+, but"):
        step("evaluate", store=small, labels_store=labels, large_store=large, bootstrap=100, out=tmp_path / "report")
