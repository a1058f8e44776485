"""Outcome tables: one store a model, and verdicts without answers are never judged as empty answers."""

import polars as pl
import pytest
from foreign_files import outcomes, told
from stepping import step

from relope.errors import InvalidInputError, NotFoundError
from relope.store import info, info_rows, open_store, verify


def brought(path, **values):
    return step("import", files=[str(path)], **values)


def test_each_model_gets_a_store(store_path, tmp_path):
    rows = told(store_path)
    path = outcomes(tmp_path / "MMR_Bench.csv", rows, ("gpt-5", "Qwen/72B"))
    done = brought(path, store=store_path, out=tmp_path / "all")
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"gpt-5.zarr", "Qwen_72B.zarr"}
    assert set(done.stores) == {"gpt-5", "Qwen/72B"} and done.text.count("(80 by id)") == 2
    for made in done.stores.values():
        assert made.samples["cost_usd"].to_list() == [0.002] * 80
        assert dict(made.samples.select("id", "response").iter_rows()) == {row["id"]: row["response"] for row in rows}
    brought(path, store=store_path, model="gpt-5", out=tmp_path / "one.zarr")
    assert open_store(tmp_path / "one.zarr").content_id == done.stores["gpt-5"].content_id
    with pytest.raises(NotFoundError, match=r"unknown model of these files 'gpt-6' .*did you mean 'gpt-5'"):
        brought(path, store=store_path, model="gpt-6", out=tmp_path / "two.zarr")


def test_verdicts_alone_are_not_judged_anew(store_path, tmp_path):
    frame = pl.DataFrame([{"id": row["id"], "big_correct": float(row["correct"])} for row in told(store_path)])
    frame.write_csv(tmp_path / "t.csv")
    done = brought(tmp_path / "t.csv", store=store_path, out=tmp_path / "big.zarr")
    assert "no column <model>_cost of big" in done.facts["notes"][0]
    made = open_store(tmp_path / "big.zarr")
    assert made.samples["response"].null_count() == 80 and verify(made.path, deep=True) == []
    assert dict(info_rows(info(made)))["tokens"] == "not told", "unknown is no 0"
    with pytest.raises(InvalidInputError, match=r"80 of 80 answers of .* are not there, only verdicts on them"):
        step("grade", store=tmp_path / "big.zarr")
    small = told(store_path)
    expected = sum(row["correct"] for row in small) / len(small)
    step("predict", router="logprob", store=store_path, out=tmp_path / "s" / "logprob.parquet")
    report = step(
        "evaluate",
        store=store_path,
        scores=tmp_path / "s",
        large_store=tmp_path / "big.zarr",
        bootstrap=100,
        out=tmp_path / "r",
    ).report
    assert report.curves["logprob"][100] == pytest.approx(expected)
    assert any("big is judged by the tool that its answers come from (imported@1)" in w.text for w in report.warnings)


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("question,a_correct", "q,1", "a column id, sample_id, index or dataset_idx is missing in the header of t.csv"),
        ("id,a_correct", "1,0.5", "'a_correct' in row 1 of t.csv .a. .* must be true or false"),
        ("id,a_correct,a_cost", "1,1,cheap", "'a_cost' in row 1 .* must be a number"),
        ("id,a_correct,a_is_correct", "1,1,1", "has both a_correct and a_is_correct"),
        ("id,is_correct", "1,1", "of no format that is known"),
        ("id,_correct", "1,1", "of no format that is known"),
        ("id,a_correct", "1", "row 1|holds no sample"),
        ("id,a_correct", "1,1,1", "more cells than the header"),
        ("id,a_correct", "1,", "holds no sample"),
    ],
)
def test_bad_tables_leave_nothing(tmp_path, header, row, says):
    (tmp_path / "t.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(InvalidInputError, match=says):
        brought(tmp_path / "t.csv", out=tmp_path / "m.zarr")
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv"}
