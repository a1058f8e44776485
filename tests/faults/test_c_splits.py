"""C: a few own samples without a split still give a test split, and plan and extract say what to do instead."""

import re

import pytest
from own_data import lines, read

from relope import steps
from relope.errors import RelopeError
from relope.extract.data.open import open_dataset
from relope.spec import CaptionSpec, ExtractSpec, PlanSpec, build


def rows(n, start=0, **more):
    """Return so many questions without images."""
    return [{"id": f"r{k}", "question": f"what {k} ?", "answer": "x", **more} for k in range(start, start + n)]


def test_c_few_samples_still_have_both_splits(tmp_path):
    for n in range(2, 12):
        for start in range(0, 400, 40):
            splits = {s.split for s in read(lines(tmp_path / "q.jsonl", rows(n, start))).values()}
            assert splits == {"train", "test"}, (n, start)
    assert {s.split for s in read(lines(tmp_path / "q.jsonl", rows(1))).values()} <= {"train", "test"}


def test_c_who_is_in_which_split_does_not_change_where_both_were_there(tmp_path):
    many = read(lines(tmp_path / "q.jsonl", rows(200)))
    assert 20 <= sum(s.split == "test" for s in many.values()) <= 60
    few = read(lines(tmp_path / "q.jsonl", rows(100)))
    assert all(many[name].split == sample.split for name, sample in few.items())


@pytest.mark.parametrize("step", [PlanSpec, ExtractSpec])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (rows(12), r"no column 'split': cut by image, train has \d+ samples? and test \d+, too few"),
        (rows(12, split="train"), "no sample is in the split test"),
    ],
)
def test_c_plan_and_extract_propose_folds(tmp_path, step, given, says, caplog):
    path = lines(tmp_path / "q.jsonl", given)
    asked = {"model": "tiny-vl", "dataset": str(path), "device": "cpu", "max_new_tokens": 0, "out": tmp_path / "s.zarr"}
    outcome = steps.run(step(**asked))
    (note,) = [note for note in outcome.facts["notes"] if "--folds 5" in note]
    assert re.search(says, note) and note in (outcome.text if step is PlanSpec else caplog.text)


def test_c_nothing_is_said_of_splits_that_are_large_enough(tmp_path):
    assert not any("folds" in note for note in open_dataset(str(lines(tmp_path / "q.jsonl", rows(300)))).notes)
    given = rows(3, split="train") + rows(1, 3, split="test")
    assert not any("folds" in note for note in open_dataset(str(lines(tmp_path / "q.jsonl", given))).notes)


@pytest.mark.parametrize("step", [ExtractSpec, PlanSpec, CaptionSpec])
def test_c_the_data_set_is_asked_for(step):
    with pytest.raises(RelopeError, match="dataset"):
        build(step.step, {"model": "tiny-vl"})
