"""C: samples without gold answers are extracted and scored; people's labels are grades of their own."""

import json

import polars as pl
import pytest

from relope import steps
from relope.errors import InvalidInputError, RelopeError
from relope.extract.data.flaws import find_flaws
from relope.extract.data.open import open_dataset
from relope.spec import EvaluateSpec, ExtractSpec, FitSpec, GradeSpec, PredictSpec
from relope.store import open_store
from relope.store.grades import counting, labelled

QUESTIONS = [f"Is {number} an even number?" for number in range(12)]


def written(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def rows(**columns):
    return [
        {"id": f"r{n}", "question": question, "split": "train" if n < 8 else "test"}
        | {name: values[n] for name, values in columns.items()}
        for n, question in enumerate(QUESTIONS)
    ]


def extracted(path, out, **more):
    return steps.run(ExtractSpec(model="tiny-vl", dataset=str(path), out=out, device="cpu", max_new_tokens=3, **more))


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traffic")
    return extracted(written(folder / "traffic.jsonl", rows()), folder / "traffic.zarr")


def test_c_unlabelled_samples_are_extracted_and_graded_null(traffic):
    assert traffic.facts["samples"] == 12 and traffic.facts["accuracy"] is None and not traffic.facts["skipped"]
    assert "no gold answers" in traffic.text
    store = open_store(traffic.path)
    table = pl.read_parquet(traffic.path / "grades" / f"{counting(store)}.parquet")
    assert len(table) == 12 and table["correct"].null_count() == 12


def test_c_fit_and_evaluate_say_what_they_need(traffic):
    for spec in (FitSpec(method="probe", store=str(traffic.path)), EvaluateSpec(store=str(traffic.path))):
        with pytest.raises(InvalidInputError, match=r"none of the \d+ samples .* is labelled") as caught:
            steps.run(spec)
        assert len(caught.value.lines.splitlines()) == 2 and "correct" in caught.value.hint


def test_c_unlabelled_samples_are_scored(traffic, tmp_path):
    spec = PredictSpec(router="logprob", store=str(traffic.path), split=("train", "test"), out=tmp_path / "s.parquet")
    assert len(steps.run(spec).scores) == 12


def test_c_store_info_of_unlabelled_samples(traffic):
    from relope.spec import StoreInfoSpec

    assert steps.run(StoreInfoSpec(store=str(traffic.path))).facts["n_samples"] == 12


def test_c_a_split_without_answers_is_traffic_beside_a_labelled_one(tmp_path):
    listed = rows(answer=["yes", "no"] * 4 + [None] * 4)
    for row in listed[8:]:
        del row["answer"]
    dataset = open_dataset(str(written(tmp_path / "q.jsonl", listed)))
    samples = [sample for split in dataset.splits for sample in dataset.load(split, None)]
    assert find_flaws(samples, text_only=False)[0] == []
    listed[3]["answer"] = None  # among answered ones it is a flaw
    dataset = open_dataset(str(written(tmp_path / "q.jsonl", listed)))
    samples = [sample for split in dataset.splits for sample in dataset.load(split, None)]
    assert [(flaw.id, flaw.reason) for flaw in find_flaws(samples, text_only=False)[0]] == [("r3", "it has no answer")]


def test_c_labels_of_people_are_grades(tmp_path):
    labels = [True, False, 1, 0, "yes", "no", "TRUE", "false", None, "", "right", "wrong"]
    said = [True, False, True, False, True, False, True, False, None, None, True, False]
    path, out = written(tmp_path / "q.jsonl", rows(correct=labels)), tmp_path / "q.zarr"
    done = extracted(path, out)
    store = open_store(out)
    assert counting(store) == "human@1" and done.facts["grader"] == "human@1"
    assert done.facts["accuracy"] == pytest.approx(0.5) and done.facts["unlabelled"] == 2
    table = pl.read_parquet(out / "grades" / "human@1.parquet")
    by_id = dict(table.select("id", "correct").iter_rows())
    assert [by_id[f"r{n}"] for n in range(12)] == said
    kept, correct = labelled(store, ["test"], None)
    assert store.samples[kept]["id"].sort().to_list() == ["r10", "r11"] and correct.sum() == 1


def test_c_labels_that_come_later_are_taken_and_nothing_is_computed_again(tmp_path):
    path, out = written(tmp_path / "q.jsonl", rows(answer=["yes", "no"] * 6)), tmp_path / "q.zarr"
    extracted(path, out)
    first = counting(open_store(out))
    written(path, rows(answer=["yes", "no"] * 6, correct=[True] * 12))
    again = extracted(path, out)
    assert again.facts["computed"] == 0 and counting(open_store(out)) == "human@1" and again.facts["accuracy"] == 1.0
    steps.run(GradeSpec(store=str(out), grader="auto"))
    assert counting(open_store(out)) == first
    assert steps.run(GradeSpec(store=str(out), grader="human")).facts["grader"] == "human@1"
    assert counting(open_store(out)) == "human@1"


def test_c_mistakes_in_labels_are_told(tmp_path, store_path):
    path = written(tmp_path / "q.jsonl", rows(correct=["maybe"] * 12))
    with pytest.raises(RelopeError, match=r"column 'correct' in line 1 of q.jsonl holds str 'maybe'"):
        open_dataset(str(path))
    with pytest.raises(RelopeError, match="has no labels of people"):
        steps.run(GradeSpec(store=str(store_path), grader="human"))


def test_c_a_flaw_among_traffic_makes_it_no_labelled_split(tmp_path):
    path = written(tmp_path / "q.jsonl", [*rows(), {"id": "torn", "question": "half \ud800", "split": "test"}])
    dataset = open_dataset(str(path))
    samples = [sample for split in dataset.splits for sample in dataset.load(split, None)]
    assert [flaw.id for flaw in find_flaws(samples, text_only=False)[0]] == ["torn"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "B?"}, "it has no answer"),
        ({"question": "B?", "answer": None}, "it has no answer"),
        ({"answer": "y"}, "the question is empty"),
        ({"question": None, "answer": "y"}, "the question is empty"),
    ],
)
def test_c_a_row_without_a_key_is_as_one_where_it_is_null(tmp_path, row, reason):
    given = [{"question": "A?", "answer": "x", "id": "a", "split": "test"}, {**row, "id": "b", "split": "test"}]
    samples = open_dataset(str(written(tmp_path / "q.jsonl", given))).load("test", None)
    assert [(flaw.id, flaw.reason) for flaw in find_flaws(samples, text_only=False)[0]] == [("b", reason)]
