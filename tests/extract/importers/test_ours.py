"""Answers in a file of one's own: matched by id or by what was asked, never by their place."""

import json
import shutil

import polars as pl
import pytest
from foreign_files import MODEL, ours, told, write_lines
from stepping import step

from relope.errors import InvalidInputError, NotFoundError
from relope.store import open_store, verify
from relope.store.grades import read_grades


def brought(path, **values):
    return step("import", files=[str(path)], **values)


def test_answers_verdicts_and_usage_are_kept(store_path, tmp_path):
    rows = told(store_path)
    done = brought(ours(tmp_path / "a.jsonl", rows[::-1]), store=store_path, out=tmp_path / "large.zarr")
    assert "80 answers of gpt-4.1 matched to " in done.text and "(80 by id)" in done.text
    made, small = open_store(tmp_path / "large.zarr"), open_store(store_path)
    assert made.manifest.answers_only and made.manifest.recorded["model"] == MODEL
    assert verify(made.path, deep=True) == [] and done.stores[MODEL].content_id == made.content_id
    mine = small.samples.filter(pl.col("split") == "test")
    for column in ("id", "question", "choices", "answers", "asked", "image_digests", "group", "response", "family"):
        assert made.samples[column].to_list() == mine[column].to_list(), column
    assert made.samples["prompt_tokens"].to_list() == list(range(179, 99, -1)), "a row's own, whatever its place"
    assert made.samples["cost_usd"].sum() == pytest.approx(0.08)
    grades = read_grades(made, None)
    assert grades.name == "imported@1"
    assert dict(grades.table.select("id", "correct").iter_rows()) == {row["id"]: row["correct"] for row in rows}


def test_it_is_done_once_and_grows(store_path, tmp_path):
    rows, out = told(store_path), tmp_path / "large.zarr"
    first = ours(tmp_path / "a.jsonl", rows[:50])
    done = brought(first, store=store_path, out=out)
    assert not done.reused and "30 samples of test without an answer (first: " in done.text
    assert brought(first, store=store_path, out=out).reused
    again = brought(ours(tmp_path / "b.jsonl", rows[40:]), store=store_path, out=out)
    assert not again.reused and again.facts["stores"][0]["new"] == 30
    made = open_store(out)
    assert len(made) == 80 and read_grades(made, None).table["correct"].to_list().count(None) == 0
    before = made.content_id
    with pytest.raises(InvalidInputError, match=r"holds another answer to 1 of 1 samples \(first: "):
        brought(ours(tmp_path / "c.jsonl", rows[:1], response="other"), store=store_path, out=out)
    assert open_store(out).content_id == before


def test_samples_without_an_id_are_found_by_question_and_images(store_path, tmp_path, questions):
    answers = {row["id"]: row for row in told(store_path)}
    (tmp_path / "d").mkdir()
    rows = []
    for sample in questions:
        row = answers[sample.id]
        rows.append({"question": sample.question, "response": row["response"], "correct": row["correct"]})
        if sample.choices:
            rows[-1]["choices"] = list(sample.choices)
    done_without = write_lines(tmp_path / "d" / "none.jsonl", rows)
    with pytest.raises(InvalidInputError, match=r"none of 40 answers of m is of a sample of .*tiny.zarr"):
        brought(done_without, store=store_path, model="m", out=tmp_path / "x.zarr")
    assert not (tmp_path / "x.zarr").exists()


def test_own_pictures_find_their_samples(tmp_path):
    from stepping import question, write_rows

    path = write_rows(tmp_path / "own", [question(number) for number in range(1, 9)])
    step("extract", model="tiny-vl", dataset=path, out=tmp_path / "small.zarr", tokens="lean")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    asked = [{key: row[key] for key in ("question", "choices", "image")} | {"response": "A"} for row in rows]
    asked[3]["image"], asked[5]["choices"] = rows[4]["image"], ["red", "blue", "grey"]
    written = write_lines(tmp_path / "own" / "answers.jsonl", asked[::-1])
    done = brought(written, store=tmp_path / "small.zarr", model="m", out=tmp_path / "m.zarr")
    facts = done.facts["stores"][0]
    assert (facts["by_id"], facts["by_question"], len(facts["unmatched"])) == (0, 6, 2)
    assert "6 by question and images), 2 match none and are left out (" in done.text
    made, small = open_store(tmp_path / "m.zarr"), open_store(tmp_path / "small.zarr")
    assert set(made.samples["id"]) == {"q1", "q2", "q3", "q5", "q7", "q8"}
    assert set(facts["unanswered"]) == set(small.samples["id"]) - set(made.samples["id"])
    ids = [{**row, "id": f"q{number}"} for number, row in enumerate(asked, 2)]  # each id is the next sample's
    done = brought(
        write_lines(tmp_path / "own" / "i.jsonl", ids),
        store=tmp_path / "small.zarr",
        model="m",
        out=tmp_path / "i.zarr",
    )
    assert done.facts["stores"][0]["by_id"] == 0 and done.facts["stores"][0]["by_question"] == 6


def test_an_id_that_asks_something_else_is_not_believed(store_path, tmp_path):
    rows = told(store_path)
    kept = [{"id": row["id"], "response": "A", "question": row["question"]} for row in rows]
    kept[7]["question"] = "something else?"
    path = write_lines(tmp_path / "a.jsonl", kept)
    facts = brought(path, store=store_path, model="m", out=tmp_path / "m.zarr").facts["stores"][0]
    (left,) = facts["unmatched"]
    assert left["id"] == rows[7]["id"] and "asks otherwise: its question" in left["reason"]
    assert facts["unanswered"] == [rows[7]["id"]]


def test_files_that_stand_alone(store_path, tmp_path):
    rows = told(store_path)
    done = brought(ours(tmp_path / "a.jsonl", rows), out=tmp_path / "a.zarr")
    made = open_store(tmp_path / "a.zarr")
    assert len(made) == 80 and done.facts["stores"][0]["accuracy"] == pytest.approx(
        sum(row["correct"] for row in rows) / 80
    )
    assert verify(made.path, deep=True) == [] and made.manifest.identity.dataset == {"source": "imported", "name": "a"}
    step("grade", store=tmp_path / "a.zarr", grader="exact")
    assert read_grades(made, "exact@" + _version("exact")).table["correct"].null_count() == 80
    with pytest.raises(InvalidInputError, match=r"line 1 of b\.jsonl has no id, and a place in a file is none"):
        brought(write_lines(tmp_path / "b.jsonl", [{"question": "q", "response": "a"}]), model="m", out=tmp_path / "b")


def _version(name):
    from relope import registry

    return registry.version("graders", name)


def test_answers_that_failed_are_none(store_path, tmp_path):
    rows = told(store_path)
    kept = [{"id": row["id"], "response": "A"} for row in rows]
    kept[2] = {"id": rows[2]["id"], "response": "", "error": "rate limit"}
    done = brought(write_lines(tmp_path / "a.jsonl", kept), store=store_path, model="m", out=tmp_path / "m.zarr")
    assert "1 sample without an answer left out (" in done.text and "rate limit" in done.text
    assert len(open_store(tmp_path / "m.zarr")) == 79 and done.facts["failed"][0]["id"] == rows[2]["id"]
    assert "no verdicts: `relope grade` judges them" in done.text
    step("grade", store=tmp_path / "m.zarr")
    with pytest.raises(InvalidInputError, match="none of 1 sample has an answer: x: down"):
        lost = write_lines(tmp_path / "b.jsonl", [{"id": "x", "error": "down"}])
        brought(lost, format="ours", store=store_path, model="m", out=tmp_path / "n.zarr")


@pytest.mark.parametrize("suffix", [".json", ".csv", ".tsv", ".parquet", ".xlsx"])
def test_every_kind_of_file(store_path, tmp_path, suffix):
    rows = [
        {"id": row["id"], "response": row["response"], "correct": row["correct"], "cost": 0.5}
        for row in told(store_path)
    ]
    path, frame = tmp_path / f"a{suffix}", pl.DataFrame(rows)
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".xlsx":
        _write_sheet(path, frame)
    else:
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    done = brought(path, store=store_path, model="m", out=tmp_path / "m.zarr")
    made = open_store(tmp_path / "m.zarr")
    assert dict(made.samples.select("id", "response").iter_rows()) == {row["id"]: row["response"] for row in rows}
    assert made.samples["cost_usd"].to_list() == [0.5] * 80 and done.facts["stores"][0]["verdicts"] == 80


def _write_sheet(path, frame):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(frame.columns)
    for row in frame.iter_rows():
        book.active.append(row)
    book.save(path)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [{"id": "a", "response": "x"}, {"id": "a", "response": "y"}],
            "line 1 of a.jsonl and line 2 of a.jsonl have",
        ),
        ([{"id": "a", "response": "x", "correct": "maybe"}], "column 'correct' in line 1 .* must be true or false"),
        ([{"id": "a", "response": "x", "correct": 0.5}], "must be true or false"),
        ([{"id": 1.5, "response": "x"}], "column 'id' in line 1"),
        ([{"id": "a", "response": ["x"]}], "column 'response' in line 1 .* must be text"),
        ([{"id": "a", "response": "x", "cost_usd": -1}], "must be a number of 0 or more"),
        ([{"id": "a", "response": "x", "prompt_tokens": 1.5}], "must be a whole number"),
        ([{"id": "a", "response": "x", "latency_s": "soon"}], "must be a number of 0 or more"),
        ([{"id": "a", "response": "x"}, {"id": "b"}], "the column response is missing in line 2"),
        ([{"id": "a", "answer": "x"}], "is of no format that is known"),
        ([{"id": "a", "response": "x", "model": "m"}, {"id": "b", "response": "x"}], "does not say which model"),
        ([], "of no format that is known"),
    ],
)
def test_bad_rows_leave_nothing(tmp_path, rows, says):
    model = None if any("model" in row for row in rows) else "m"
    with pytest.raises(InvalidInputError, match=says):
        brought(write_lines(tmp_path / "a.jsonl", rows), model=model, out=tmp_path / "m.zarr")
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl"}


def test_what_is_missing_is_said(store_path, tmp_path):
    path = ours(tmp_path / "a.jsonl", told(store_path), model="")
    with pytest.raises(InvalidInputError, match="do not say which model has answered"):
        brought(path, out=tmp_path / "m.zarr")
    with pytest.raises(NotFoundError, match="there is no file"):
        brought(tmp_path / "none.jsonl", model="m", out=tmp_path / "m.zarr")
    with pytest.raises(InvalidInputError, match="is a folder"):
        brought(tmp_path, model="m", out=tmp_path / "m.zarr")
    with pytest.raises(NotFoundError, match="unknown importer 'lm-evil'"):
        brought(path, model="m", format="lm-evil", out=tmp_path / "m.zarr")
    shutil.copy(path, tmp_path / "a.txt")
    with pytest.raises(InvalidInputError, match="is of no format that is known"):
        brought(tmp_path / "a.txt", model="m", out=tmp_path / "m.zarr")


def test_a_lone_store_is_held_against_what_the_small_model_was_asked(store_path, tmp_path):
    kept = ("id", "response", "correct", "question")
    rows = [{name: row[name] for name in kept} for row in told(store_path)]
    step("predict", router="logprob", store=store_path, out=tmp_path / "s" / "logprob.parquet")

    def report(name):
        brought(write_lines(tmp_path / f"{name}.jsonl", rows), model="m", out=tmp_path / f"{name}.zarr")
        asked = {"scores": tmp_path / "s", "large_store": tmp_path / f"{name}.zarr", "bootstrap": 100}
        return step("evaluate", store=store_path, **asked, out=tmp_path / f"{name}.report").report

    assert report("same").hybrid.large_accuracy == pytest.approx(sum(row["correct"] for row in rows) / 80)
    rows[5]["question"] = "something else?"
    with pytest.raises(InvalidInputError, match=r"holds other samples under 1 of 80 ids: .*'s question differs"):
        report("other")
