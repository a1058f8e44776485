"""lm-evaluation-harness: generated answers, likelihoods, filters; a place in a data set is no id."""

import pytest
from foreign_files import lm_eval_line, told, write_lines
from stepping import step

from relope.errors import InvalidInputError
from relope.store import open_store
from relope.store.grades import read_grades

ROW = {"id": "q1", "question": "which?", "choices": ["red", "blue"], "response": "B", "correct": True}


def brought(path, **values):
    return step("import", files=[str(path)], **values)


def alone(tmp_path, *lines):
    path = write_lines(tmp_path / "samples_x.jsonl", lines)
    done = brought(path, model="m", out=tmp_path / "m.zarr")
    made = open_store(tmp_path / "m.zarr")
    table = read_grades(made, None).table if done.facts["stores"][0]["verdicts"] else None
    return done, made.samples, table


def test_the_likeliest_continuation_is_the_answer(tmp_path):
    line = lm_eval_line(0, ROW)
    line |= {
        "arguments": {f"gen_args_{n}": {"arg_0": "Q", "arg_1": f" {letter}"} for n, letter in enumerate("ABCD")},
        "resps": [[["-3.5", "False"]], [["-0.5", "True"]], [["-9.0", "False"]], [["-4.0", "False"]]],
        "filtered_resps": [["-3.5", "False"], ["-0.5", "True"], ["-9.0", "False"], ["-4.0", "False"]],
        "metrics": ["acc", "acc_norm"],
        "acc": 1.0,
        "acc_norm": 0.0,
    }
    _, samples, grades = alone(tmp_path, line)
    assert samples["response"].to_list() == ["B"] and grades["correct"].to_list() == [True]


def test_of_several_filters_the_first_counts(tmp_path):
    strict = lm_eval_line(0, ROW, filter="strict-match", filtered_resps=["[invalid]"], exact_match=0.0)
    loose = lm_eval_line(0, ROW, filter="flexible-extract", filtered_resps=["B"], exact_match=1.0)
    done, samples, grades = alone(tmp_path, strict, loose)
    assert samples["response"].to_list() == ["B"] and grades["correct"].to_list() == [False]
    assert grades["parsed"].to_list() == ["[invalid]"]
    assert (
        "verdicts are those of the filter strict-match; not read: flexible-extract (1 line)" in done.facts["notes"][0]
    )


def test_the_layout_of_0_4_2(tmp_path):
    line = lm_eval_line(0, ROW, arguments=[["Q", {"until": []}]])
    del line["filter"], line["metrics"]
    _, samples, grades = alone(tmp_path, line)
    assert samples["response"].to_list() == ["B"] and grades["correct"].to_list() == [True]


def test_a_place_in_the_data_set_is_no_id(store_path, tmp_path):
    lines = [lm_eval_line(number, row) for number, row in enumerate(told(store_path))]
    for line in lines:
        line["doc_id"], line["doc"] = line["doc"]["id"], {"question": line["doc"]["question"], "image": "<PIL>"}
    with pytest.raises(InvalidInputError, match=r"none of 80 answers .* does not tell which images it shows"):
        path = write_lines(tmp_path / "samples_x.jsonl", lines)
        brought(path, model="m", store=store_path, out=tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()


def test_text_questions_are_found_by_what_they_ask(tmp_path):
    rows = [{"id": f"s{n}", "question": f"{n} + 1?", "answer": str(n + 1), "split": "test"} for n in range(6)]
    data = write_lines(tmp_path / "sums.jsonl", rows)
    step("extract", model="tiny-vl", dataset=data, out=tmp_path / "small.zarr", tokens="lean")
    lines = [lm_eval_line(n, {**ROW, **row, "choices": [], "response": row["answer"]}) for n, row in enumerate(rows)]
    for line in lines:
        del line["doc"]["id"]
    done = brought(
        write_lines(tmp_path / "samples_x.jsonl", lines[::-1]),
        model="m",
        store=tmp_path / "small.zarr",
        out=tmp_path / "m.zarr",
    )
    assert "(6 by question and images)" in done.text
    made = dict(open_store(tmp_path / "m.zarr").samples.select("id", "response").iter_rows())
    assert made == {row["id"]: row["answer"] for row in rows}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"doc": "text"}, "doc in line 1 .* must be an object"),
        ({"resps": "B"}, "must be lists"),
        ({"filtered_resps": [["-1", "True"], "B"]}, "its answer cannot be told"),
        ({"filtered_resps": [["nan", "True"], ["-1", "False"]]}, "its answer cannot be told"),
        ({"filtered_resps": [["-1", "True"]]}, "0 continuations: its answer cannot be told"),
        ({"resps": [], "filtered_resps": []}, "none of 1 sample has an answer: q1: it has no response"),
        ({"resps": [[None]], "filtered_resps": [None]}, "it has no response"),
    ],
)
def test_other_layouts_leave_nothing(tmp_path, changes, says):
    with pytest.raises(InvalidInputError, match=says):
        alone(tmp_path, lm_eval_line(0, ROW, **changes))
    assert not (tmp_path / "m.zarr").exists()


def test_a_metric_that_is_no_verdict_is_none(tmp_path):
    done, _, grades = alone(tmp_path, lm_eval_line(0, ROW, metrics=["bleu"], bleu=0.37))
    assert grades is None and "no verdicts" in done.text
