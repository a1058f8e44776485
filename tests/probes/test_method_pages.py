"""Methods through the steps: scored on the fly, with a large store, with traces; and their pages."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_stores import as_of_another_model
from made_traces import add_traces

from relope import registry, steps
from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.scores import read_scores
from relope.probes.protocol import method_class
from relope.probes.router import load_router
from relope.spec import EvaluateSpec, FitSpec, PredictSpec
from relope.steps.outputs import router_folder, scores_path

UNTRAINED = [name for name in registry.names("methods") if not method_class(name).traits.trains]
PAGES = Path(__file__).parents[2] / "docs"


@pytest.fixture
def traced(store_path, tmp_path):
    """A copy of the small store with traces, which a test may write beside."""
    path = Path(shutil.copytree(store_path, tmp_path / "tiny.zarr"))
    add_traces(path)
    return path


def test_evaluate_scores_what_needs_no_training_on_the_fly(traced, tmp_path):
    spec = EvaluateSpec(store=traced, methods=tuple(UNTRAINED), bootstrap=100, out=tmp_path / "r")
    report = json.loads((steps.run(spec).path / "report.json").read_text())
    assert {row["method"] for row in report["methods"]} == set(UNTRAINED)
    made = scores_path(traced, "mot").stat().st_mtime_ns
    assert steps.run(spec).reused and scores_path(traced, "mot").stat().st_mtime_ns == made


def test_evaluate_says_which_flag_a_method_lacks(store_path, tmp_path):
    spec = EvaluateSpec(store=store_path, methods=("mot",), bootstrap=100, out=tmp_path / "r")
    with pytest.raises(NotFoundError, match="mot needs sampled traces") as caught:
        steps.run(spec)
    assert caught.value.hint == "extract again with --samples 5 into a new --out"


def test_an_untrained_method_takes_settings_through_fit(traced, tmp_path):
    steps.run(FitSpec(method="mot", store=traced, set={"variant": "verify"}))
    router = router_folder(traced, "mot")
    assert load_router(router).probe.params.variant == "verify"
    made = steps.run(PredictSpec(router=str(router), store=traced, out=tmp_path / "verify.parquet"))
    assert set(read_scores(made.path).scores.tolist()) == {0.0, 1.0}


def test_other_verdicts_give_other_scores(traced):
    spec = PredictSpec(router="self-consistency", store=traced)
    first = read_scores(steps.run(spec).path).scores
    assert steps.run(spec).reused
    for file in traced.glob("grades/*.parquet"):
        frame = pl.read_parquet(file)
        frame.with_columns(parsed_direct=pl.Series([["x", "y", "z"]] * len(frame))).write_parquet(file)
    again = steps.run(spec)
    assert not again.reused
    assert np.allclose(read_scores(again.path).scores, 1 / 3) and not np.allclose(first, 1 / 3)


def test_routellm_says_what_it_was_fitted_on(traced, tmp_path):
    alone = steps.run(FitSpec(method="routellm-sw", store=traced))
    assert "without a large model's grades" in alone.text
    scored = steps.run(PredictSpec(router=str(alone.path), store=traced))
    assert "without a large model" in read_scores(scored.path).meta.note

    large = as_of_another_model(traced, tmp_path / "large.zarr")
    for file in large.glob("grades/*.parquet"):
        pl.read_parquet(file).with_columns(correct=pl.lit(True)).write_parquet(file)
    both = steps.run(FitSpec(method="routellm-sw", store=traced, large_store=large))
    assert not both.reused and "without" not in both.text
    assert steps.run(FitSpec(method="routellm-sw", store=traced, large_store=large)).reused
    probe = load_router(both.path).probe
    assert sorted(set(probe.wins_.tolist())) == [0.5, 1.0]  # the large model is never the worse one


def test_a_large_store_is_for_methods_that_read_it(traced, tmp_path):
    with pytest.raises(InvalidInputError, match="probe reads no large store"):
        steps.run(FitSpec(method="probe", store=traced, large_store=traced))
    few = as_of_another_model(traced, tmp_path / "few.zarr")
    for file in few.glob("grades/*.parquet"):
        pl.read_parquet(file).filter(pl.col("split") == "test").write_parquet(file)
    with pytest.raises(InvalidInputError, match="lacks 160 of 160 samples"):
        steps.run(FitSpec(method="routellm-sw", store=traced, large_store=few))


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_method_has_a_page_and_stands_in_the_index(name):
    page = (PAGES / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    for heading in ("Idea", "Formula", "Cost", "When to use it", "Settings", "Source"):
        assert f"\n## {heading}\n" in page, heading
    for setting in method_class(name).Params.model_fields:
        assert f"`{setting}`" in page, setting
    assert f"[`{name}`](methods/{name}.md)" in (PAGES / "methods.md").read_text(encoding="utf-8")
