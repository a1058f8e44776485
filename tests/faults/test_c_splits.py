"""C: a few own samples without a split still give a test split, and plan and extract say what to do instead."""

import re

import pytest
from own_data import lines, read

from relope import steps
from relope.errors import NotFoundError, RelopeError
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
        (rows(12), r"no column 'split': cut by question, train has \d+ samples? and test \d+, too few"),
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
    given = rows(3, split="train") + rows(20, 3, split="test")
    notes = open_dataset(str(lines(tmp_path / "q.jsonl", given))).notes
    assert "splits: train 3, test 20" in notes and not any("folds" in note for note in notes)


def notes_of(path, given):
    return open_dataset(str(lines(path / "q.jsonl", given))).notes


def test_c_few_test_samples_are_told_whoever_cut_the_splits(tmp_path):
    notes = notes_of(tmp_path, rows(30, split="train") + rows(4, 30, split="test"))
    assert any("the split test has 4 samples, too few" in note and "--folds 5" in note for note in notes)


def test_c_capitals_and_spaces_make_no_split_of_their_own_and_are_told(tmp_path):
    named = ("train ", "Train", "Validation", "DEV", "TEST", "\ttest", "mine")
    given = [row for k, name in enumerate(named) for row in rows(2, 2 * k, split=name)]
    dataset = open_dataset(str(lines(tmp_path / "q.jsonl", given)))
    assert dataset.splits == ("train", "validation", "test", "mine")
    assert {split: len(dataset.load(split, None)) for split in dataset.splits} == dataset.counts
    told = "train 4 (written 'Train', 'train '), validation 4 (written 'DEV', 'Validation'), test 4"
    assert any(note.startswith(f"splits: {told} (written") and note.endswith("mine 2") for note in dataset.notes)


def test_c_a_misspelt_split_is_asked_about(tmp_path):
    notes = notes_of(tmp_path, rows(3, split="train") + rows(2, 3, split="validaton") + rows(1, 5, split="Tets"))
    assert "splits: train 3, Tets 1 (did you mean test?), validaton 2 (did you mean validation?)" in notes


@pytest.mark.parametrize("step", ["extract", "plan", "caption"])
@pytest.mark.parametrize(("asked", "meant"), [("TEST", "test"), ("trian", "train"), (" Train", "train")])
def test_c_a_split_that_an_own_file_lacks_is_told_with_the_counts(tmp_path, step, asked, meant):
    path = lines(tmp_path / "q.jsonl", rows(3, split="train") + rows(2, 3, split="test"))
    with pytest.raises(NotFoundError, match=rf"there is: test 2, train 3\); did you mean '{meant}'"):
        steps.run(build(step, {"model": "tiny-vl", "dataset": str(path), "split": [asked], "out": tmp_path / "x"}))


@pytest.fixture(scope="module")
def fitted(store_path, tmp_path_factory):
    """A router that learned from the train split of the small store."""
    out = tmp_path_factory.mktemp("router") / "probe"
    return steps.run(
        build("fit", {"method": "probe", "store": store_path, "set": {"head": "logistic"}, "out": out})
    ).path


@pytest.mark.parametrize("step", ["fit", "sweep", "predict", "calibrate", "evaluate", "store pull"])
def test_c_a_split_that_a_store_lacks_is_told_with_the_counts(store_path, fitted, tmp_path, step):
    asked = {
        "fit": {"method": "probe"},
        "sweep": {"method": "probe", "grid": {"epochs": [1, 2]}},
        "predict": {"router": str(fitted)},
        "calibrate": {"router": str(fitted), "budget": 0.2},
        "evaluate": {},
        "store pull": {},
    }[step]
    where = {"uri": str(store_path)} if step == "store pull" else {"store": str(store_path)}
    with pytest.raises(
        NotFoundError, match=r"unknown split of .*'TEST' \(there is: test 80, train 160\); did you mean 'test'"
    ):
        steps.run(build(step, {**asked, **where, "split": ["TEST"], "out": tmp_path / "x.parquet"}))


def test_c_a_missing_split_is_told_with_what_works(store_path, fitted, tmp_path):
    """The hint of `calibrate`, whose default the store lacks, names a split on which it goes on."""
    asked = {"router": str(fitted), "store": str(store_path), "budget": 0.3, "out": tmp_path / "b"}
    with pytest.raises(NotFoundError, match=r"unknown split of .* 'validation'") as error:
        steps.run(build("calibrate", asked))
    assert "--split test is there and was not learned from" in error.value.hint
    assert steps.run(build("calibrate", {**asked, "split": ["test"]})).bundle.made.n == 80
    with pytest.raises(RelopeError, match="learned from split train") as error:
        steps.run(build("calibrate", {**asked, "split": ["train"]}))
    assert "--split test is there" in error.value.hint


def test_c_where_all_was_learned_from_calibrate_says_so(store_path, tmp_path):
    asked = {"store": str(store_path), "set": {"head": "logistic"}, "split": ["train", "test"], "out": tmp_path / "r"}
    router = steps.run(build("fit", {"method": "probe", **asked})).path
    with pytest.raises(NotFoundError) as error:
        steps.run(build("calibrate", {"router": str(router), "store": str(store_path), "budget": 0.3}))
    assert "learned from every split there" in error.value.hint


def test_c_what_a_store_lacks_is_added_where_that_can_be(store_path, tmp_path):
    with pytest.raises(NotFoundError) as error:
        steps.run(build("fit", {"method": "probe", "store": str(store_path), "split": ["validation"]}))
    assert "`relope extract --split validation` with the flags" in error.value.hint
    own = tmp_path / "own.zarr"
    path = lines(tmp_path / "q.jsonl", rows(3, split="train"))
    steps.run(ExtractSpec(model="tiny-vl", dataset=str(path), device="cpu", max_new_tokens=0, out=own))
    with pytest.raises(NotFoundError, match=r"there is: train 3") as error:
        steps.run(build("predict", {"router": "logprob", "store": str(own)}))
    assert "a new --out" in error.value.hint and "extract --split" not in error.value.hint


@pytest.mark.parametrize("step", [ExtractSpec, PlanSpec, CaptionSpec])
def test_c_the_data_set_is_asked_for(step):
    with pytest.raises(RelopeError, match="dataset"):
        build(step.step, {"model": "tiny-vl"})


def test_c_scores_of_folds_that_lack_samples_are_told_with_how_to_make_them(store_path, tmp_path):
    scores = tmp_path / "scores"
    made = {"method": "question-kind", "store": store_path, "folds": 3, "out": scores / "question-kind@folds3.parquet"}
    steps.run(build("fit", made))
    with pytest.raises(RelopeError, match="lacks 80 of the 80") as error:
        steps.run(build("evaluate", {"store": store_path, "scores": scores, "out": tmp_path / "report"}))
    assert "`relope fit question-kind --folds 3 --split test`" in error.value.hint and "--methods" in error.value.hint
