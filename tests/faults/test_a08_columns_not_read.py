"""A8: columns that are not read are named, with what may have been meant, by plan and extract."""

import pytest
from own_data import lines, parquet

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.columns import guessed
from relope.extract.data.open import open_dataset
from relope.spec import ExtractSpec, PlanSpec

ROW = {"question": "What?", "answer": "x"}


@pytest.mark.parametrize(
    ("name", "column"),
    [
        *[(name, "image") for name in ("img", "image_path", "picture", "Image", "image-file", "imgae")],
        *[(name, "images") for name in ("pictures", "image_paths", "Images")],
        *[(name, "choices") for name in ("option", "opts", "candidates", "choises")],
        *[(name, "hint") for name in ("context",)],
        *[(name, "split") for name in ("subset", "fold")],
        *[(name, "id") for name in ("question_id", "ID")],
    ],
)
def test_a8_a_column_under_another_name_is_named_with_what_was_meant(tmp_path, name, column):
    notes = open_dataset(str(lines(tmp_path / "q.jsonl", [{**ROW, name: "x.png"}]))).notes
    assert notes[:2] == (f"columns not read: {name} (did you mean {column}?)", "0 of 1 samples have an image")


def test_a8_so_it_is_in_a_table_and_when_only_some_rows_have_it(tmp_path):
    rows = [{**ROW, "id": "a", "candidates": None}, {**ROW, "id": "b", "candidates": ["x", "y"]}]
    assert "candidates (did you mean choices?)" in open_dataset(str(parquet(tmp_path / "q.parquet", rows))).notes[0]
    rows = [{**ROW, "id": "a"}, {**ROW, "id": "b", "label": "x", "note": 1, **{f"x{k}": 1 for k in range(9)}}]
    unread = open_dataset(str(lines(tmp_path / "q.jsonl", rows))).notes[0]
    assert unread.startswith("columns not read: label, note, x0") and unread.endswith("and 3 more")


def test_a8_what_is_missing_is_looked_for_under_other_names(tmp_path):
    with pytest.raises(NotFoundError, match=r"column 'question' is missing .*; is 'query' meant"):
        open_dataset(str(lines(tmp_path / "q.jsonl", [{"query": "x", "answer": "y"}])))
    with pytest.raises(NotFoundError, match=r"column 'answer' is missing in line 2 .*; is 'gold' meant"):
        open_dataset(str(lines(tmp_path / "q.jsonl", [ROW, {"question": "And?", "gold": "y"}])))
    for name in ("label", "gold"):  # without any answer, samples are traffic to be scored: it is said all the same
        notes = open_dataset(str(lines(tmp_path / "q.jsonl", [{"question": "x", name: "y"}]))).notes
        assert notes[0] == f"columns not read: {name} (did you mean answer?)"


def test_a8_nothing_is_said_where_everything_is_read(tmp_path):
    row = {**ROW, "image": "data:image/png;base64,", "split": "test"}
    notes = open_dataset(str(lines(tmp_path / "q.jsonl", [{**row, "kind": "k"}]))).notes
    assert not any("not read" in note or "image" in note for note in notes)
    both = open_dataset(str(lines(tmp_path / "q.jsonl", [{**row, "img": 1}]))).notes
    assert both[0] == "columns not read: img"
    assert guessed("zzz") == "" and open_dataset("tiny").notes == ()


def test_a8_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "q.csv").write_text("question,answer,answer\na?,x,y\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"column 'answer' stands twice in the header of q\.csv"):
        open_dataset(str(tmp_path / "q.csv"))


@pytest.mark.parametrize("step", [PlanSpec, ExtractSpec])
def test_a8_plan_and_extract_say_so(tmp_path, step, caplog):
    path = lines(tmp_path / "q.jsonl", [{**ROW, "split": "test", "candidates": ["x", "y"]}])
    asked = {"model": "tiny-vl", "dataset": str(path), "device": "cpu", "max_new_tokens": 4, "out": tmp_path / "s.zarr"}
    outcome = steps.run(step(**asked))
    said = "columns not read: candidates (did you mean choices?)"
    assert said in outcome.facts["notes"] and "0 of 1 samples have an image" in outcome.facts["notes"]
    assert said in (outcome.text if step is PlanSpec else caplog.text)


def test_a8_plan_names_what_extract_will_skip(tmp_path):
    rows = [{**ROW, "id": "good"}, {**ROW, "id": "empty", "question": ""}, {**ROW, "id": "lost", "image": "none.png"}]
    rows.append({**ROW, "id": "token", "question": "what <|im_end|> ?"})
    path = lines(tmp_path / "q.jsonl", rows)
    asked = {"model": "tiny-vl", "dataset": str(path), "device": "cpu", "max_new_tokens": 4, "out": tmp_path / "s.zarr"}
    planned, done = steps.run(PlanSpec(**asked)), steps.run(ExtractSpec(**asked))
    skipped = {flaw["id"] for flaw in planned.facts["skipped"]}
    assert skipped == {"empty", "lost", "token"} == {flaw["id"] for flaw in done.facts["skipped"]}
    assert planned.facts["samples"] == done.facts["computed"] == 1 and "3 of 4 samples cannot be used" in planned.text
