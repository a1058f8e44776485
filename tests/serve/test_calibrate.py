"""`relope calibrate`: one goal, unseen samples, promises that say what they rest on, bundles that show any change."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import yaml
from made_answers import retold

from relope import steps
from relope.errors import InvalidInputError, NotFoundError, RelopeError, StoreError
from relope.extract.data.flaws import Flaw, write_skipped
from relope.serve.bundle import load_bundle
from relope.serve.card import promise_text
from relope.spec import build
from relope.store import open_store


def step(name, **values):
    return steps.run(build(name, {key: str(value) if key == "router" else value for key, value in values.items()}))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of 80 training and 300 validation questions, of both models."""
    folder = tmp_path_factory.mktemp("calibrate")
    for model, splits in (("tiny-vl", (("train", 80), ("validation", 300))), ("tiny-vl-large", (("validation", 300),))):
        for split, limit in splits:
            out = folder / f"{model}.zarr"
            step("extract", model=model, dataset="tiny", split=split, limit=limit, out=out, device="cpu")
    return folder / "tiny-vl.zarr"


@pytest.fixture(scope="module")
def large(store):
    return store.with_name("tiny-vl-large.zarr")


@pytest.fixture(scope="module")
def router(store):
    return step("fit", method="probe", store=store, set={"head": "logistic"}, out=store.parent / "probe").path


def test_a_budget_is_kept_with_confidence_and_the_bundle_says_on_what(store, router, tmp_path):
    outcome = step("calibrate", router=router, store=store, budget=0.3, out=tmp_path / "b")
    bundle = outcome.bundle
    scores = pl.read_parquet(
        step("predict", router=router, store=store, split="validation", out=tmp_path / "s.parquet").path
    )["score"].cast(pl.Float64)
    assert bundle.threshold == bundle.promise.threshold and bundle.promise.n <= bundle.made.n == 300
    assert 0 < (scores < bundle.threshold).mean() < 0.3, "a promise leaves room for the drawing of the samples"
    assert bundle.made.grader and bundle.made.splits == ("validation",) and bundle.before_answer
    assert "with 95 % confidence where one query of each image group counts (" in outcome.text
    assert bundle.promise.on_all == pytest.approx(float((scores < bundle.threshold).mean()))
    assert step("calibrate", router=router, store=store, budget=0.3, out=tmp_path / "b").reused
    again = step("predict", router=tmp_path / "b", store=store, split="validation", out=tmp_path / "again.parquet")
    assert np.array_equal(pl.read_parquet(again.path)["score"].cast(pl.Float64), scores), "a bundle is a router"


def test_the_table_says_what_each_share_gives(store, router, large, tmp_path):
    prices = {"dollars_per_million_prompt_tokens": 1.0, "dollars_per_million_answer_tokens": 4.0}
    costs = tmp_path / "costs.yaml"
    costs.write_text(
        yaml.safe_dump({"models": {"tiny-vl": prices, "tiny-vl-large": {k: 10 * v for k, v in prices.items()}}})
    )
    asked = {"router": router, "store": store, "large_store": large, "costs": costs}
    bundle = step("calibrate", **asked, min_accuracy=0.6, out=tmp_path / "b").bundle
    assert bundle.accuracy_is == "system" and len(bundle.table) == 99 and bundle.made.large == "tiny-vl-large"
    for row in bundle.table:
        assert row.share_ci95[0] <= row.share <= row.share_ci95[1] and abs(row.share - row.percent / 100) < 0.02
        assert row.accuracy_ci95[0] < row.accuracy < row.accuracy_ci95[1]
        assert row.dollars_ci95[0] < row.dollars < row.dollars_ci95[1]
    dollars = [row.dollars for row in bundle.table]
    assert dollars == sorted(dollars) and dollars[-1] > 3 * dollars[0]
    cheap = step("calibrate", **asked, max_usd_per_1k=1000 * dollars[39], out=tmp_path / "usd").bundle
    assert 0.2 < (cheap.promise.observed or 0) < 0.41
    with pytest.raises(InvalidInputError, match="does not pay for more than the small model"):
        step("calibrate", **asked, max_usd_per_1k=1e-9, out=tmp_path / "none")


def test_what_the_large_model_refuses_is_left_out_and_the_promise_says_so(store, router, tmp_path):
    large = retold(store, tmp_path / "some.zarr", split="validation", limit=280, text=lambda row, _: row["answers"][0])
    step("grade", store=large)
    asked = {"router": router, "store": store, "large_store": large, "min_accuracy": 0.5, "out": tmp_path / "b"}
    with pytest.raises(InvalidInputError, match="lacks 20 of 300 samples"):
        step("calibrate", **asked)
    names = set(open_store(large).samples["id"])
    validation = open_store(store).samples.filter(pl.col("split") == "validation")["id"]
    write_skipped(large, [], [Flaw(name, "validation", "content_filter") for name in validation if name not in names])
    told = step("calibrate", **asked)
    assert (told.bundle.made.n, told.bundle.made.n_refused) == (280, 20)
    (warning,) = told.warnings
    assert warning.text.startswith("20 of 300 samples are left out, to which told gave no answer (")
    assert "on queries like these that told answers, with 95 % confidence" in told.text
    card = (told.path / "README.md").read_text()
    assert "20 further samples are left out: it gave no answer to them." in card and "that told answers" in card
    again = step("calibrate", **asked)
    assert again.reused and again.warnings == told.warnings
    whole = step("calibrate", **{**asked, "large_store": None, "out": tmp_path / "c"}).bundle
    assert whole.made.n_refused == 0 and "like these, with" in promise_text(whole)


def test_where_nothing_can_be_promised_it_says_what_would_do(store, router, tmp_path):
    asked = {"router": router, "store": store, "out": tmp_path / "b"}
    with pytest.raises(InvalidInputError, match=r"error among kept at most 20 % cannot .* on \d+ .*; about [\d,]+"):
        step("calibrate", **asked, max_error=0.2, confidence=0.999999)
    with pytest.raises(InvalidInputError, match=r"share escalated at most 1 % cannot .*; about 299 like these"):
        step("calibrate", **asked, budget=0.01)
    assert not (tmp_path / "b").exists()


def test_only_unseen_samples_and_one_goal(store, router, tmp_path):
    with pytest.raises(InvalidInputError, match="learned from split train"):
        step("calibrate", router=router, store=store, split="train", budget=0.2, out=tmp_path / "b")
    for goals in ({}, {"budget": 0.2, "max_error": 0.1}):
        with pytest.raises(InvalidInputError, match="a threshold has one goal") as error:
            step("calibrate", router=router, store=store, out=tmp_path / "b", **goals)
        assert "--budget 0.2" in error.value.hint
    with pytest.raises(InvalidInputError, match="dollars need prices"):
        step("calibrate", router=router, store=store, max_usd_per_1k=1, out=tmp_path / "b")
    (tmp_path / "mine").mkdir()
    with pytest.raises(InvalidInputError, match="exists and is no bundle"):
        step("calibrate", router=router, store=store, budget=0.2, out=tmp_path / "mine")


@pytest.fixture
def bundle(store, router, tmp_path):
    return step("calibrate", router=router, store=store, budget=0.3, out=tmp_path / "bundle").path


def test_every_file_of_a_bundle_is_checked(bundle):
    whole = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert {"bundle.json", "README.md", "router.json"} < set(whole) and not any(name.endswith(".pkl") for name in whole)
    for name, content in whole.items():
        changed = bytes([content[0] ^ 1]) + content[1:]
        (bundle / name).write_bytes(changed)
        with pytest.raises(StoreError) as error:
            load_bundle(bundle)
        assert len(error.value.lines.splitlines()) <= 2
        (bundle / name).write_bytes(content)
    (bundle / "more.txt").write_text("x")
    with pytest.raises(StoreError, match="does not belong"):
        load_bundle(bundle)
    (bundle / "more.txt").unlink()
    (bundle / "README.md").unlink()
    with pytest.raises(StoreError, match=r"lacks README\.md"):
        load_bundle(bundle)
    with pytest.raises(NotFoundError, match="holds no bundle"):
        load_bundle(bundle.parent)


@pytest.mark.parametrize("mutate", [
    lambda v: v.pop("threshold"), lambda v: v.update(threshold=0.5), lambda v: v["promise"].update(threshold=None),
    lambda v: v.update(table=3), lambda v: v.update(format_version=9),
    lambda v: v.update(made=None), lambda v: v["promise"].update(n="many"), lambda v: v.update(files=[1]),
])  # fmt: skip
def test_a_manifest_of_wrong_types_is_refused(bundle, mutate):
    value = json.loads((bundle / "bundle.json").read_text())
    mutate(value)
    (bundle / "bundle.json").write_text(json.dumps(value))
    with pytest.raises(RelopeError) as error:
        load_bundle(bundle)
    assert len(error.value.lines.splitlines()) <= 2


def test_another_backbone_is_refused_by_naming_both_sides(bundle, store, large):
    from relope.store import open_store

    read = load_bundle(bundle)
    read.check_backbone(open_store(store).manifest.identity, "tiny-vl")
    with pytest.raises(InvalidInputError, match=r"is for tiny-vl, checkpoint \w+; tiny-vl-large has checkpoint"):
        read.check_backbone(open_store(large).manifest.identity, "tiny-vl-large")
    half = open_store(store).manifest.identity.with_fields(compute_dtype="bfloat16")
    with pytest.raises(InvalidInputError, match="dtype float32; live has dtype bfloat16"):
        read.check_backbone(half, "live")


def test_the_card_is_one_of_the_hub(bundle):
    from huggingface_hub import ModelCard

    text = (bundle / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.library_name == "relope" and "routing" in card.data.tags
    assert "**It promises** share escalated at most 30 %" in text and str(bundle.parent) not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1 and len(rows) == 7


def test_relope_takes_its_block_along(store, tmp_path):
    fitted = step("fit", method="relope", store=store, set={"epochs": 1, "lora_rank": 2}, out=tmp_path / "r").path
    bundle = step("calibrate", router=fitted, store=store, budget=0.3, out=tmp_path / "b").path
    assert any(name.startswith("block_") for name in load_bundle(bundle).files)
    moved = shutil.move(bundle, tmp_path / "elsewhere")
    assert load_bundle(moved).method == "relope"
