"""Several stores, left-out data, caps, folds, transfer, frozen labels, seeds, held-out thresholds, prices."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.numbers.calibration import fold_of_groups
from relope.evaluate.scores import read_scores
from relope.probes.examples import Examples
from relope.probes.protocol import make
from relope.spec import build
from relope.steps.lesson import lesson_of
from relope.steps.out_of_fold import score_out_of_fold
from relope.steps.samples import Selection, capped, training_rows
from relope.store import ActivationStore, StoreUnion
from relope.store.grades import parsed_answers
from relope.types import silent


def extract(out, **values):
    steps.run(build("extract", {"model": "tiny-vl", "device": "cpu", "out": str(out), **values}))
    return out


def step(name, **values):
    values = {key: str(value) if hasattr(value, "parts") else value for key, value in values.items()}
    return steps.run(build(name, values))


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """A store of another data set."""
    return extract(
        tmp_path_factory.mktemp("bars") / "bars.zarr", dataset="tiny-bars", split="train,validation", limit=40
    )


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The test questions of the small store on perturbed images."""
    return extract(
        tmp_path_factory.mktemp("noisy") / "noisy.zarr", dataset="tiny", split="test", limit=80, perturb="noise:0.3"
    )


def test_joined_stores_read_as_one(store_path, bars):
    one, two = ActivationStore.open(store_path), ActivationStore.open(bars)
    both = StoreUnion([one, two])
    assert len(both) == len(one) + len(two) and both.samples["row"].to_list() == list(range(len(both)))
    rows = np.array([0, len(one) + 3, 5, len(one)])
    expected = np.stack([one.last(4, [0])[0], two.last(4, [3])[0], one.last(4, [5])[0], two.last(4, [0])[0]])
    assert np.array_equal(both.last(4, rows), expected)
    assert np.array_equal(both.answer(rows)[1], two.answer([3])[0])
    tokens = both.tokens(rows)
    assert all(np.array_equal(a, b) for a, b in zip(tokens, [*one.tokens([0]), *two.tokens([3])], strict=False))
    (batch,) = both.batches(3, rows, size=9)
    assert np.array_equal(batch.values[: batch.offsets[1]], next(one.batches(3, [0], size=1)).values)
    assert np.array_equal(batch.values[batch.offsets[3] :], next(two.batches(3, [0], size=1)).values)
    shuffled = [row for b in both.batches(3, size=16, rng=np.random.default_rng(0)) for row in b.rows.tolist()]
    assert sorted(shuffled) == list(range(len(both))) and both.bytes_read > 0
    assert len(StoreUnion([one, one])) == len(one)


def test_stores_of_other_layers_do_not_join(store_path, tmp_path):
    other = extract(tmp_path / "x.zarr", dataset="tiny-bars", split="train", limit=4, layers="2,3")
    with pytest.raises(InvalidInputError, match="do not go together: layers"):
        StoreUnion([ActivationStore.open(store_path), ActivationStore.open(other)])


def test_leaving_out_and_caps(store_path, bars):
    spec = Selection((str(store_path), str(bars)), ("train",), None)
    everything = training_rows(spec)
    assert len(everything.rows) == 160 + 40
    left = training_rows(replace(spec, leave_out=("tiny",)))
    assert set(left.store.samples[left.rows]["dataset"]) == {"tiny-bars"} and len(left.rows) == 40
    few = training_rows(replace(spec, cap=20))
    counts = dict(few.store.samples[few.rows].group_by("dataset").len().rows())
    assert all(14 <= count <= 20 for count in counts.values()) and set(counts) == {"tiny", "tiny-bars"}
    with pytest.raises(NotFoundError, match="unknown data set to leave out 'tinny'"):
        training_rows(replace(spec, leave_out=("tinny",)))
    with pytest.raises(InvalidInputError, match="nothing is left to learn from"):
        training_rows(replace(spec, leave_out=("tiny", "tiny-bars")))


def test_a_smaller_cap_is_part_of_a_larger_one_and_groups_stay_whole():
    table = pl.DataFrame(
        {
            "id": [str(i) for i in range(90)],
            "dataset": ["a"] * 60 + ["b"] * 30,
            "group": [f"g{i // 3}" for i in range(90)],
        }
    )
    everything = np.ones(90, bool)
    small, large = capped(table, everything, 10, 1), capped(table, everything, 25, 1)
    assert small.sum() == 9 + 9 and large.sum() == 24 + 24 and not (small & ~large).any()
    groups = table["group"].to_numpy()
    assert not set(groups[small]) & set(groups[~small])


def test_a_router_for_other_data_needs_transfer_and_says_so(store_path, bars, tmp_path):
    router = tmp_path / "r" / "probe"
    step("fit", method="probe", store=store_path, also=bars, leave_out="tiny", out=router)
    asked = {"router": str(router), "store": store_path, "out": tmp_path / "scores" / "probe.parquet"}
    with pytest.raises(InvalidInputError, match="they differ in the stores joined") as caught:
        step("predict", **asked)
    assert "add --transfer" in caught.value.hint
    step("predict", **asked, transfer=True)
    step("evaluate", store=store_path, scores=tmp_path / "scores", out=tmp_path / "report", bootstrap=100)
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["provenance"]["transferred"] == ["probe"] and "other data" in report["methods"][0]["note"]


def test_a_router_of_another_model_is_refused_even_with_transfer(store_path, tmp_path):
    large = tmp_path / "large.zarr"
    extract(large, model="tiny-vl-large", dataset="tiny", split="test", limit=4)
    step("fit", method="question-kind", store=store_path, out=tmp_path / "r")
    with pytest.raises(InvalidInputError, match=r"r was fitted on another recipe .* than .*large.zarr .*differ in"):
        step("predict", router=str(tmp_path / "r"), store=large, transfer=True)


def test_frozen_labels_are_those_of_the_clean_pictures(store_path, noisy, tmp_path):
    step("predict", router="logprob", store=noisy, out=tmp_path / "scores" / "logprob.parquet")
    for name, more in (("own", {}), ("frozen", {"labels_store": store_path})):
        step("evaluate", store=noisy, scores=tmp_path / "scores", out=tmp_path / name, bootstrap=100, **more)
    own, frozen = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("own", "frozen"))
    assert own["provenance"]["perturbation"] == {"kind": "noise", "strength": 0.3}
    assert frozen["dataset"] == "tiny (images with noise, labels frozen)" and own["n_correct"] != frozen["n_correct"]
    clean = ActivationStore.open(store_path)
    (verdicts,) = (pl.read_parquet(path) for path in (store_path / "grades").glob("*.parquet"))
    scores = read_scores(tmp_path / "scores" / "logprob.parquet")
    truth = pl.DataFrame({"id": list(scores.ids)}).join(verdicts, on="id", maintain_order="left")["correct"]
    assert frozen["methods"][0]["auc"] == pytest.approx(roc_auc_score(truth.to_numpy(), scores.scores), abs=1e-12)
    assert len(clean) == 240
    with pytest.raises(InvalidInputError, match=r"labels store .*noisy.zarr lacks 160 of 240"):
        step("evaluate", store=store_path, labels_store=noisy, split="train,test", scores=tmp_path / "scores")


def test_out_of_fold_scores_come_from_routers_that_did_not_see_the_group(store_path, tmp_path):
    asked = {"method": "probe", "store": store_path, "folds": 4}
    made = step("fit", **asked)
    path = store_path.parent / "tiny.zarr.scores" / "probe@folds4.parquet"
    assert made.path == path
    scores = read_scores(path)
    assert len(scores.ids) == 160 and "did not see its group" in scores.meta.note and scores.meta.folds == 4
    assert step("fit", **asked).reused and not step("fit", **{**asked, "folds": 3}, out=tmp_path / "3.parquet").reused
    with pytest.raises(InvalidInputError, match=r"folds leave a file of scores.*few must end in .parquet"):
        step("fit", **asked, out=tmp_path / "few")
    step("fit", method="probe", store=store_path, out=tmp_path / "few")
    router_scores = step(
        "predict", router=str(tmp_path / "few"), store=store_path, split="train", out=tmp_path / "in.parquet"
    )
    assert not np.allclose(read_scores(router_scores.path).scores, scores.scores)
    step("evaluate", store=store_path, split="train", methods="probe@folds4", out=tmp_path / "report", bootstrap=100)
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["n"] == 160 and report["methods"][0]["note"].startswith("out of fold: 4 routers")
    assert report["what"].endswith("Scored out of fold: probe@folds4.")
    assert report["provenance"]["out_of_fold"] == ["probe@folds4"]
    path.unlink()


@pytest.mark.parametrize("method", ["relope", "posthoc", "routellm-sw", "question-confidence"])
def test_each_fold_is_scored_by_a_fit_on_the_others(store_path, tmp_path, method):
    settings = {"epochs": 2} if method == "relope" else {}
    out = tmp_path / "scores" / f"{method}@seed1.parquet"
    step("fit", method=method, store=store_path, split="train,test", folds=3, seed=1, set=settings, out=out)
    scores, store = read_scores(out), ActivationStore.open(store_path)
    assert scores.ids == tuple(store.samples["id"]) and scores.meta.folds == 3
    verdicts = pl.read_parquet(next((store_path / "grades").glob("*.parquet")))
    known = store.samples.join(verdicts, on="id", how="left", maintain_order="left")
    fold = fold_of_groups(known["group"].to_numpy().astype(str), 3, 1)
    rows, correct = np.arange(len(store)), known["correct"].to_numpy()
    read = parsed_answers(store, rows, None)
    inside, held = np.flatnonzero(fold != 2), np.flatnonzero(fold == 2)
    assert not set(known["group"].gather(inside)) & set(known["group"].gather(held))
    learned = 240 - np.bincount(fold)
    assert learned.min() < learned.max() and scores.meta.n_train == learned.min()
    assert f"3 routers, fitted on {learned.min()} to {learned.max()} samples, " in scores.meta.note
    examples = Examples(store, rows, correct, 4, grades=read)
    alone = make(method, settings).fit(examples.take(inside), seed=1).predict_proba(examples.take(held))
    assert np.array_equal(scores.scores[held], alone)
    step("evaluate", store=store_path, split="train,test", scores=out.parent, out=tmp_path / "r", bootstrap=100)
    (row,) = json.loads((tmp_path / "r/report.json").read_text())["methods"]
    assert row["method"] == method and row["seeds"] == [1] and row["n"] == 240


def test_one_image_cannot_be_folded(store_path, tmp_path):
    lesson = lesson_of(build("fit", {"method": "probe", "store": str(store_path), "folds": 3}))
    groups = lesson.examples().groups
    one = np.flatnonzero(groups == groups[0])
    training = replace(
        lesson.training,
        rows=lesson.training.rows[one],
        correct=lesson.training.correct[one],
        parsed=lesson.training.parsed[one],
    )
    said = f"probe cannot be scored out of fold: all {len(one)} training samples share one image"
    with pytest.raises(InvalidInputError, match=said):
        score_out_of_fold(replace(lesson, training=training), 3, tmp_path / "one.parquet", silent)
    assert not list(tmp_path.iterdir())


def test_two_files_of_one_seed_are_refused(store_path, tmp_path):
    for name in ("logprob", "logprob@seed0"):
        step("predict", router="logprob", store=store_path, out=tmp_path / "s" / f"{name}.parquet")
    with pytest.raises(InvalidInputError, match=r"logprob.parquet and .*logprob@seed0.parquet are both of logprob"):
        step("evaluate", store=store_path, scores=tmp_path / "s", out=tmp_path / "r")


def test_thresholds_are_set_on_validation_where_it_is_scored(bars, tmp_path):
    for split in ("train", "train,validation"):
        step("predict", router="logprob", store=bars, split=split, out=tmp_path / split / "logprob.parquet")
        step("evaluate", store=bars, split="train", scores=tmp_path / split, out=tmp_path / "r", bootstrap=100)
        row = json.loads((tmp_path / "r/report.json").read_text())["methods"][0]
        assert row["budgets_set_on"] == ("test" if split == "train" else "validation")
    scores = read_scores(tmp_path / "train,validation" / "logprob.parquet")
    split = dict(ActivationStore.open(bars).samples.select("id", "split").rows())
    held = np.array([s for i, s in zip(scores.ids, scores.scores, strict=True) if split[i] == "validation"], float)
    test = np.array([s for i, s in zip(scores.ids, scores.scores, strict=True) if split[i] == "train"], float)
    threshold = np.quantile(held, 0.5, method="higher")
    assert row["budgets"][2] == {"requested": 0.5, "threshold": threshold, "realised": (test < threshold).mean()}


def test_prices_make_axes_and_unknown_ones_stay_null(store_path, tmp_path):
    large = tmp_path / "large.zarr"
    extract(large, model="tiny-vl-large", dataset="tiny", split="test", limit=80, tokens="lean")
    step("predict", router="logprob", store=store_path, out=tmp_path / "scores" / "logprob.parquet")
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "models:\n  tiny-vl: {dollars_per_million_prompt_tokens: 1, dollars_per_million_answer_tokens: 2, "
        "seconds_per_query: 0.1, seconds_per_answer_token: 0.01}\n"
        "  tiny-vl-large: {dollars_per_million_prompt_tokens: 10, dollars_per_million_answer_tokens: 20}\n"
    )
    asked = {"store": store_path, "scores": tmp_path / "scores", "out": tmp_path / "r", "bootstrap": 100}
    step("evaluate", **asked, large_store=large, costs=prices)
    row = json.loads((tmp_path / "r/report.json").read_text())["methods"][0]
    assert row["costs"]["latency"] is None

    def dollars(path, prompt, answer):
        samples = ActivationStore.open(path).samples.filter(pl.col("split") == "test")
        return (prompt * samples["n_tokens"].mean() + answer * samples["token_ids"].list.len().mean()) / 1e6

    assert row["costs"]["dollars"]["0"] == pytest.approx(dollars(store_path, 1, 2))
    assert row["costs"]["dollars"]["1"] == pytest.approx(dollars(store_path, 1, 2) + dollars(large, 10, 20))
    assert (row["decides_before_answer"], row["not_counted"]) == (False, None)
    step("fit", method="question-kind", store=store_path, out=tmp_path / "kind@c1")
    step("predict", router=tmp_path / "kind@c1", store=store_path, out=tmp_path / "scores" / "kind@c1.parquet")
    step("evaluate", **asked, large_store=large, costs=prices)
    rows = {row["method"]: row for row in json.loads((tmp_path / "r/report.json").read_text())["methods"]}
    assert rows["kind@c1"]["decides_before_answer"] and not rows["logprob"]["decides_before_answer"]
    assert rows["kind@c1"]["costs"]["dollars"]["1"] == pytest.approx(dollars(store_path, 1, 0) + dollars(large, 10, 20))
    page = (tmp_path / "r/report.html").read_text()
    assert "$ per 1,000 queries" in page and "latency: a price or speed that it needs is unknown" in page
    prices.write_text("models:\n  tiny-vl: {dollars_per_token: 1}\n")
    with pytest.raises(InvalidInputError, match=r"prices.yaml: models.tiny-vl.dollars_per_token: .*not permitted"):
        step("evaluate", **asked, costs=prices)
    with pytest.raises(NotFoundError, match=r"none\.yaml does not exist$") as caught:
        step("evaluate", **asked, costs=tmp_path / "none.yaml")
    assert "costs.example.yaml" in caught.value.hint
    with pytest.raises(InvalidInputError, match=r"large.zarr are on answers of tiny-vl-large, .*\.zarr is of tiny-vl$"):
        step("evaluate", **asked, labels_store=large)
    with pytest.raises(InvalidInputError, match=r"hold answers of tiny-vl, made alike"):
        step("evaluate", **asked, large_store=store_path)


def test_scores_of_other_samples_are_refused_with_both_sides_named(store_path, tmp_path):
    step("predict", router="logprob", store=store_path, split="train", out=tmp_path / "s" / "logprob.parquet")
    with pytest.raises(InvalidInputError, match=r"logprob.parquet has 160 scores but lacks 80 of the 80 labelled"):
        step("evaluate", store=store_path, scores=tmp_path / "s", out=tmp_path / "r")
    with pytest.raises(NotFoundError, match=r"unknown split .*'validation'"):
        step("evaluate", store=store_path, scores=tmp_path / "s", split="validation")


def test_scores_of_another_method_are_not_taken_for_up_to_date(store_path, tmp_path):
    out = tmp_path / "scores.parquet"
    one, two = (step("predict", router=name, store=store_path, out=out) for name in ("logprob", "entropy"))
    assert not one.reused and not two.reused and read_scores(out).meta.method == "entropy"
    assert step("predict", router="entropy", store=store_path, out=out).reused


def test_a_report_says_when_it_is_of_samples_that_a_router_has_seen(store_path, tmp_path):
    router, folder = tmp_path / "kind", tmp_path / "scores"
    step("fit", method="question-kind", store=store_path, out=router)
    step("predict", router=router, store=store_path, split="train,test", out=folder / "kind.parquet")
    step("predict", router="logprob", store=store_path, split="train,test", out=folder / "logprob.parquet")
    for split, seen in (("test", False), ("train", True)):
        step("evaluate", store=store_path, scores=folder, split=split, bootstrap=100, out=tmp_path / split)
        rows = json.loads((tmp_path / split / "report.json").read_text())["methods"]
        learned = {row["method"]: row["seen"] for row in rows}
        assert learned == {"kind": ["train"] if seen else [], "logprob": []}
