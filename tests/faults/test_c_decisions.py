"""C: between a fitted router and a decision: thresholds, formats, fits on the way, states-only stores."""

import json

import numpy as np
import polars as pl
import pytest

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.spec import build


def step(name, **values):
    return steps.run(
        build(name, {key: str(value) if key in ("store", "router") else value for key, value in values.items()})
    )


@pytest.fixture(scope="module")
def router(store_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("router") / "probe"
    step("fit", method="probe", store=store_path, set={"head": "logistic"}, out=out)
    return out


@pytest.fixture(scope="module")
def with_validation(store_path, tmp_path_factory):
    """The small store's recipe, with a validation split beside train and test."""
    out = tmp_path_factory.mktemp("validated") / "tiny.zarr"
    for split, limit in (("train", 40), ("validation", 40), ("test", 40)):
        step("extract", model="tiny-vl", dataset="tiny", split=split, limit=limit, out=out, device="cpu")
    return out


def test_c_a_budget_gives_a_column_escalate_set_on_the_samples_themselves(store_path, router, tmp_path):
    out = tmp_path / "probe.parquet"
    outcome = step("predict", router=router, store=store_path, budget=0.2, out=out)
    table = pl.read_parquet(out)
    assert table["escalate"].dtype == pl.Boolean and table["escalate"].sum() == 16 == outcome.facts["escalated"]
    kept = table.filter(~pl.col("escalate"))["score"]
    assert table.filter("escalate")["score"].max() < kept.min() == pytest.approx(outcome.facts["threshold"])
    assert "16 of 80 escalated, 20.0 %" in outcome.text and "the scored samples themselves" in outcome.text
    again = step("predict", router=router, store=store_path, budget=0.2, out=out)
    assert again.reused and "16 of 80 escalated" in again.text and again.facts["escalated"] == 16
    assert not step("predict", router=router, store=store_path, budget=0.3, out=out).reused
    assert "escalate" not in pl.read_parquet(
        step("predict", router=router, store=store_path, out=tmp_path / "n.parquet").path
    )


def test_c_a_budget_is_set_on_validation_where_there_is_one(with_validation, tmp_path):
    fitted = step("fit", method="probe", store=with_validation, set={"head": "logistic"}, out=tmp_path / "r").path
    outcome = step("predict", router=fitted, store=with_validation, budget=0.25, out=tmp_path / "s.parquet")
    held = pl.read_parquet(
        step("predict", router=fitted, store=with_validation, split="validation", out=tmp_path / "v.parquet").path
    )["score"].cast(pl.Float64)
    assert (held < outcome.facts["threshold"]).sum() == 10 and "40 validation samples" in outcome.text
    learned = step(
        "fit", method="probe", store=with_validation, split="train,validation", set={"head": "logistic"},
        out=tmp_path / "both",
    ).path  # fmt: skip
    told = step("predict", router=learned, store=with_validation, budget=0.25, out=tmp_path / "b.parquet").text
    assert "the scored samples themselves" in told, "nothing is set on what the router has learned from"


def test_c_a_threshold_decides_and_two_ways_at_once_are_refused(store_path, router, tmp_path):
    out = tmp_path / "probe.csv"
    step("predict", router=router, store=store_path, threshold=0.5, out=out)
    table = pl.read_csv(out)
    assert table.columns == ["id", "score", "escalate"] and len(table) == 80
    assert ((table["score"] < 0.5) == table["escalate"]).all()
    with pytest.raises(InvalidInputError, match=r"budget .* and a threshold"):
        step("predict", router=router, store=store_path, threshold=0.5, budget=0.2, out=out)


def test_c_scores_of_one_name_in_several_formats_are_up_to_date_each_by_its_own_run(store_path, router, tmp_path):
    csv, lines = tmp_path / "s.csv", tmp_path / "s.jsonl"
    step("predict", router=router, store=store_path, budget=0.2, out=csv)
    step("predict", router=router, store=store_path, budget=0.4, out=lines)
    assert not step("predict", router=router, store=store_path, budget=0.4, out=csv).reused
    assert pl.read_csv(csv)["escalate"].sum() == 32
    csv.write_text(csv.read_text().replace("true", "false"))
    assert not step("predict", router=router, store=store_path, budget=0.4, out=csv).reused, "it was changed"
    assert pl.read_csv(csv)["escalate"].sum() == 32


@pytest.mark.parametrize(("ending", "read"), [(".csv", pl.read_csv), (".jsonl", pl.read_ndjson)])
def test_c_scores_are_written_as_their_file_is_called(store_path, router, tmp_path, ending, read):
    parquet = step("predict", router=router, store=store_path, out=tmp_path / "s.parquet").path
    out = tmp_path / f"other{ending}"
    assert not step("predict", router=router, store=store_path, out=out).reused
    table, true = read(out), pl.read_parquet(parquet)
    assert table["id"].to_list() == true["id"].to_list() and np.allclose(table["score"], true["score"], atol=1e-6)
    assert step("predict", router=router, store=store_path, out=out).reused
    with pytest.raises(InvalidInputError, match="must end in one of"):
        step("predict", router=router, store=store_path, out=tmp_path / "s.xlsx")


def test_c_evaluate_fits_and_scores_what_is_missing(store_path, tmp_path):
    import shutil

    store = tmp_path / "tiny.zarr"
    shutil.copytree(store_path, store)
    outcome = step("evaluate", store=store, fit="question-kind,probe,logprob", bootstrap=100)
    rows = {row["method"]: row for row in json.loads((outcome.path / "report.json").read_text())["methods"]}
    assert set(rows) == {"question-kind", "probe", "logprob"}
    assert step("fit", method="probe", store=store).reused
    assert step("evaluate", store=store, fit="question-kind,probe,logprob", bootstrap=100).reused
    with pytest.raises(NotFoundError, match="unknown method 'prob'"):
        step("evaluate", store=store, fit="prob", bootstrap=100)


def test_c_states_only_serve_a_router_that_decides_before_the_answer(store_path, router, tmp_path):
    states = tmp_path / "states.zarr"
    step("extract", model="tiny-vl", dataset="tiny", split="test", limit=80, max_new_tokens=0, out=states, device="cpu")
    apart = pl.read_parquet(step("predict", router=router, store=states, out=tmp_path / "a.parquet").path)
    whole = pl.read_parquet(step("predict", router=router, store=store_path, out=tmp_path / "b.parquet").path)
    joined = apart.join(whole, on="id", suffix="_whole")
    assert len(joined) == 80 and np.allclose(joined["score"], joined["score_whole"], atol=1e-5)
    after = step("fit", method="cascade-logprob", store=store_path, out=tmp_path / "cascade").path
    with pytest.raises(InvalidInputError, match="differ in generation"):
        step("predict", router=after, store=states, out=tmp_path / "c.parquet")
