"""Several large models at once: each has its curve, and which pays where is what a count by hand says."""

import json

import numpy as np
import polars as pl
import pytest
from made_answers import retold
from stepping import step
from typer.testing import CliRunner

from relope.cli import app
from relope.errors import InvalidInputError
from relope.extract.data.flaws import Flaw, write_skipped
from relope.steps.samples import Selection, training_rows
from relope.store import open_store

PRICE = "{dollars_per_million_prompt_tokens: %s, dollars_per_million_answer_tokens: %s}"


def _mostly_right(row, number):
    return row["answers"][0] if number % 8 else "?"


@pytest.fixture(scope="module")
def larges(store_path, tmp_path_factory):
    """A large model that is right on nearly all, and one that answers as the small one does."""
    folder = tmp_path_factory.mktemp("larges")
    told = retold(store_path, folder / "same.zarr", model="same")
    right = retold(store_path, folder / "right.zarr", model="right", text=_mostly_right)
    for path in (told, right):
        step("grade", store=path)
    return told, right


@pytest.fixture(scope="module")
def report(store_path, larges, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    step("predict", router="logprob", store=store_path, out=folder / "scores" / "logprob.parquet")
    prices = folder / "prices.yaml"
    lines = {"tiny-vl": PRICE % (1, 1), "same": PRICE % (10, 10), "right": PRICE % (100, 100)}
    prices.write_text("models:\n" + "".join(f"  {name}: {line}\n" for name, line in lines.items()))
    asked = ["evaluate", "--store", str(store_path), "--scores", str(folder / "scores"), "--bootstrap", "200"]
    asked += ["--large-store", str(larges[0]), "--large-store", str(larges[1]), "--costs", str(prices)]
    result = CliRunner().invoke(app, [*asked, "--out", str(folder / "r")])
    assert result.exit_code == 0, result.output
    return folder / "r", result.stdout


def test_each_model_has_its_curve_by_hand(report):
    folder, _ = report
    told = json.loads((folder / "report.json").read_text())
    several = told["several"]
    frame = pl.read_parquet(folder / "scores.parquet")
    small, first, second = (frame[name].to_numpy() for name in ("correct", "large_correct", "large_correct right"))
    assert [model["model"] for model in several["models"]] == ["same", "right"] and several["method"] == "logprob"
    assert told["large_name"] == "same" and several["models"][0]["curve"] == told["curves"]["logprob"]
    score = frame["score logprob@seed0"].to_numpy()
    order = np.lexsort((np.random.default_rng(0).permutation(len(score)), score))
    k = int(np.ceil(0.2 * len(score)))
    for model, large in zip(several["models"], (first, second), strict=True):
        system = small.copy()
        system[order[:k]] = large[order[:k]]
        assert model["at"]["0.2"]["accuracy"] == pytest.approx(system.mean())
        assert model["accuracy"] == pytest.approx(large.mean()) and model["curve"][100] == pytest.approx(large.mean())
    best = small | first | second
    assert several["any_right"] == pytest.approx(best.mean())
    assert max(several["oracle_curve"]) == pytest.approx(best.mean())
    assert several["oracle_curve"][0] == pytest.approx(small.mean())


def test_it_says_which_pays(report):
    folder, said = report
    several = json.loads((folder / "report.json").read_text())["several"]
    for key in ("0.1", "0.2", "0.5"):
        pays = several["pays"][key]
        assert (pays["model"], pays["next"]) == ("right", "same")
        first, second = (model["at"][key]["accuracy"] for model in several["models"])
        assert pays["over_next"]["value"] == pytest.approx(second - first)
    assert several["pays"]["0.5"]["is_shown"] and several["pays"]["0.5"]["over_next"]["ci95"][0] > 0
    page = (folder / "report.html").read_text()
    assert "Which large model pays" in page and "right pays: the system is right on" in page
    assert "Large models on the queue of logprob" in said and "What dollars buy" in said
    cheap, dear = several["models"]
    assert cheap["dollars"] < dear["dollars"] and cheap["at"]["0.2"]["dollars"] < dear["at"]["0.2"]["dollars"]
    dollars = several["for_dollars"]
    assert dollars == sorted(dollars, key=lambda one: one["dollars"])
    least = dollars[0]
    for model in several["models"]:
        within = [
            accuracy
            for accuracy, cost in zip(model["curve"], model["dollars_curve"], strict=True)
            if cost <= least["dollars"] * (1 + 1e-9)
        ]
        assert least["accuracy"][model["model"]] == (max(within) if within else None)
    table = pl.read_csv(folder / "tables" / "large_models.csv")
    assert set(table["large_model"]) == {"same", "right"} and len(table) == 2 * len(several["pays"])


def test_one_large_model_is_a_report_as_ever(store_path, larges, report, tmp_path):
    scores = report[0].parent / "scores"
    one = step("evaluate", store=store_path, scores=scores, large_store=larges[0], bootstrap=100, out=tmp_path / "r")
    assert one.report.several is None and "Which large model pays" not in (tmp_path / "r" / "report.html").read_text()
    with pytest.raises(InvalidInputError, match="both hold answers of same"):
        step("evaluate", store=store_path, scores=scores, large_store=[str(larges[0])] * 2, out=tmp_path / "s")


def test_what_its_server_refuses_is_left_out_and_told_and_what_was_not_asked_is_not(store_path, tmp_path):
    large = retold(store_path, tmp_path / "some.zarr", limit=70)
    step("grade", store=large)
    step("predict", router="logprob", store=store_path, out=tmp_path / "scores" / "logprob.parquet")
    asked = {"store": store_path, "scores": tmp_path / "scores", "large_store": large, "bootstrap": 100}
    small = open_store(store_path).samples.filter(pl.col("split") == "test")
    lacking = [name for name in small["id"] if name not in set(open_store(large).samples["id"])]
    flaws = [Flaw(name, "test", "content_filter") for name in lacking]
    write_skipped(large, [], flaws[1:])
    with pytest.raises(InvalidInputError, match=rf"lacks 1 of \d+ samples \(first: {lacking[0]}\)"):
        step("evaluate", **asked, out=tmp_path / "r")
    write_skipped(large, [], flaws)
    told = step("evaluate", **asked, out=tmp_path / "r").report
    assert told.n == len(small) - len(lacking) == told.methods[0].n
    (warning,) = [one.text for one in told.warnings if "left out" in one.text]
    assert warning.startswith(f"{len(lacking)} of {len(small)} samples are left out, to which told gave no answer (")
    assert "content_filter" in warning and warning.endswith("how the system does on such is not shown.")
    scores = pl.read_parquet(tmp_path / "r" / "scores.parquet")
    assert not set(scores["id"]) & set(lacking)


def test_a_router_of_who_wins_does_not_learn_what_the_large_model_refused(store_path, tmp_path):
    large = retold(store_path, tmp_path / "some.zarr", split="train", limit=150, text=_mostly_right)
    step("grade", store=large)
    asked = {"method": "routellm-sw", "store": store_path, "large_store": large}
    names = set(open_store(large).samples["id"])
    lacking = [name for name in training_rows(Selection((store_path,), ("train",), None)).ids if name not in names]
    with pytest.raises(InvalidInputError, match=rf"lacks {len(lacking)} of 160 samples"):
        step("fit", **asked, out=tmp_path / "r")
    write_skipped(large, [], [Flaw(name, "train", "content_filter") for name in lacking])
    fitted = step("fit", **asked, out=tmp_path / "r")
    assert fitted.facts["samples"] == 160 - len(lacking) and len(lacking) == 10
    assert fitted.warnings[0].text.startswith("10 of 160 samples are left out, to which told gave no answer (")
    assert step("fit", **asked, out=tmp_path / "r").reused
    scored = step("fit", **asked, folds=3, out=tmp_path / "s.parquet")
    assert scored.facts["samples"] == 150
