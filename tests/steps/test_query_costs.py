"""What a query costs: by the tokens that whoever answered has counted, sampled traces and p(True) included."""

import json

import numpy as np
import polars as pl
import pytest
from made_answers import retold
from stepping import step

from relope.evaluate.numbers.costs import ModelCost, PriceList
from relope.steps.query_costs import model_costs, query_costs
from relope.store import open_store

COST = ModelCost(
    dollars_per_million_prompt_tokens=1e6,
    dollars_per_million_answer_tokens=2e6,
    seconds_per_query=1,
    seconds_per_answer_token=0.5,
)


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Eight test questions with three traces in each style and p(True)."""
    path = tmp_path_factory.mktemp("traced") / "traced.zarr"
    fields = {"model": "tiny-vl", "dataset": "tiny", "split": "test", "limit": 8, "device": "cpu"}
    step("extract", **fields, samples=3, trace_tokens=12, p_true=True, out=path)
    return path


def test_traces_keep_what_they_took(traced):
    samples = open_store(traced).samples
    for style in ("direct", "chain"):
        taken = samples[f"trace_tokens_{style}"].to_list()
        assert all(len(counts) == 3 and max(counts) <= 64 for counts in taken)
        said = zip(taken, samples[f"traces_{style}"].to_list(), strict=True)
        assert all(bool(count) or not text for pair in said for count, text in zip(*pair, strict=True))
    follow_up = samples["p_true_tokens"] - samples["token_ids"].list.len().cast(pl.Int64)
    assert follow_up.n_unique() == 1 and follow_up[0] > 5, "the answer and the turn that asks"


def test_they_are_counted_for_every_query(traced):
    store = open_store(traced)
    samples = store.samples
    methods = {
        "logprob": ("logprob", {}),
        "mot": ("mot", {"variant": "vote"}),
        "sc": ("self-consistency", {"style": "chain"}),
        "p-true": ("p-true", {}),
    }
    costs = query_costs(store, samples, None, PriceList(models={"tiny-vl": COST}), methods)
    kept = {name: costs.of_query("dollars", name)[0] for name in methods}
    wait = {name: costs.of_query("latency", name)[0] for name in methods}
    assert set(costs.beside) == {"mot", "sc", "p-true"}
    plain = samples["n_tokens"] + 2 * samples["token_ids"].list.len()
    assert kept["logprob"].tolist() == plain.to_list()
    both = samples.select(
        pl.col("trace_tokens_direct").list.sum() + pl.col("trace_tokens_chain").list.sum()
    ).to_series()
    assert (kept["mot"] - kept["logprob"]).tolist() == (2 * both).to_list()
    assert (kept["sc"] - kept["logprob"]).tolist() == (2 * samples["trace_tokens_chain"].list.sum()).to_list()
    assert (kept["p-true"] - kept["logprob"]).tolist() == (samples["p_true_tokens"] + 2).to_list()
    np.testing.assert_allclose(wait["sc"] - wait["logprob"], 0.5 * samples["trace_tokens_chain"].list.max().to_numpy())
    older = samples.drop("trace_tokens_direct", "trace_tokens_chain", "p_true_tokens")
    assert query_costs(store, older, None, PriceList(models={"tiny-vl": COST}), methods).beside == {}


def test_the_report_says_no_longer_that_they_are_left_out(traced, tmp_path):
    step("predict", router="mot", store=traced, out=tmp_path / "scores" / "mot.parquet")
    prices = tmp_path / "prices.yaml"
    prices.write_text(json.dumps({"models": {"tiny-vl": COST.model_dump(), "told": COST.model_dump()}}))
    large = retold(traced, tmp_path / "told.zarr", limit=8)
    step("grade", store=large)
    asked = {"store": traced, "large_store": large, "scores": tmp_path / "scores", "bootstrap": 100}
    (row,) = step("evaluate", **asked, costs=prices, out=tmp_path / "r").report.to_json()["methods"]
    assert row["not_counted"] is None and row["needs"] == "--samples 5"
    samples, told = open_store(traced).samples, open_store(large).samples
    both = samples.select(
        pl.col("trace_tokens_direct").list.sum() + pl.col("trace_tokens_chain").list.sum()
    ).to_series()
    kept = (samples["n_tokens"] + 2 * samples["token_ids"].list.len() + 2 * both).mean()
    assert row["costs"]["dollars"]["0"] == pytest.approx(kept)
    escalated = kept + (told["prompt_tokens"] + 2 * told["completion_tokens"]).mean()
    assert row["costs"]["dollars"]["1"] == pytest.approx(escalated)


def test_what_was_measured_stands_in_for_what_no_list_names():
    samples = pl.DataFrame(
        {
            "prompt_tokens": [10, 20],
            "completion_tokens": [1, 2],
            "cached_tokens": [None, 8],
            "latency_s": [0.5, 1.5],
            "cost_usd": [0.25, 0.75],
            "n_tokens": [0, 0],
        }
    )
    assert model_costs(COST, samples)["dollars"].tolist() == [12, 24]
    assert model_costs(COST, samples)["latency"].tolist() == [1.5, 2.0]
    cached = COST.model_copy(update={"dollars_per_million_cached_tokens": 0.5e6, "seconds_per_query": None})
    costs = model_costs(cached, samples)
    assert costs["dollars"].tolist() == [12, 20] and costs["latency"].tolist() == [0.5, 1.5]
    costs = model_costs(None, samples)
    assert costs["dollars"].tolist() == [0.25, 0.75] and costs["latency"].tolist() == [0.5, 1.5]
    unknown = samples.with_columns(completion_tokens=pl.Series([1, None]), cost_usd=pl.Series([None, 0.5]))
    assert model_costs(COST, unknown)["dollars"] is None, "what is unknown of one stays unknown"
