"""Cards: what is said beside a shared router, bundle or store, as huggingface_hub reads it, and whose README stays."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from huggingface_hub import DatasetCard, EvalResult, ModelCard
from made_bundle import calibrated, made_bundle, written_bundle
from made_stores import tree_bytes

from relope import steps
from relope.cards.facts import Measured, Origin
from relope.cards.page import card, line, router_front
from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.locations import as_location
from relope.serve.card import card_text
from relope.spec import build
from relope.store import verify
from relope.store.share.readme import put_readme
from relope.store.share.schemes import open_remote


def step(name, **fields):
    return steps.run(build(name, fields))


def readme(uri):
    return open_remote(as_location(uri)).read("README.md").content.decode()


@pytest.fixture(scope="module")
def world(store_path, tmp_path_factory):
    """A store with a router, its scores and a report beside it."""
    store = Path(shutil.copytree(store_path, tmp_path_factory.mktemp("cards") / "tiny.zarr"))
    step("fit", method="probe", store=store, set={"epochs": 2})
    step("predict", router=f"{store}.routers/probe", store=store)
    step("evaluate", store=store, bootstrap=200)
    return store


def reported(store):
    return json.loads(Path(f"{store}.report/report.json").read_text())


def test_a_store_s_card_says_what_is_there(world, team):
    uri = f"{team}/tiny.zarr"
    sent = step("store push", store=world, uri=uri, license="cc-by-4.0")
    assert sent.facts["card"] == "written"
    text = readme(uri)
    front = DatasetCard(text).data.to_dict()
    assert front["license"] == "cc-by-4.0" and front["size_categories"] == ["n<1K"] and "relope" in front["tags"]
    grades = pl.read_parquet(next(world.glob("grades/*.parquet")))
    share = grades.filter(pl.col("split") == "test")["correct"].mean()
    assert f"- `test`: 80; the model is right on {100 * share:.1f} % of 80, 95 % interval " in text
    row = reported(world)["methods"][0]
    low, high = row["ci95"]
    assert f"- `probe`: AUC {row['auc']:.3f}, 95 % interval {low:.3f}–{high:.3f}, on 80 samples" in text
    assert "its licence: `apache-2.0`, as its own card says" in text and "judged by `auto@" in text
    assert f"relope store pull {uri} --out" in text and str(world.parent) not in text.replace(uri, "")
    again = step("store push", store=world, uri=uri)
    assert again.reused and again.facts["card"] == "as it was" and readme(uri) == text  # the licence stays


def test_a_card_is_none_of_the_files_that_count(world, tmp_path):
    (tmp_path / "mount").mkdir()
    there = tmp_path / "mount" / "tiny.zarr"
    step("store push", store=world, uri=there.as_uri())
    assert verify(there) == []
    step("store pull", uri=there.as_uri(), out=tmp_path / "mine.zarr")
    assert verify(tmp_path / "mine.zarr") == [] and not (tmp_path / "mine.zarr" / "README.md").exists()


def test_the_hub_s_viewer_is_shown_the_samples(world, tmp_path, monkeypatch):
    import datasets

    (tmp_path / "mount").mkdir()
    step("store push", store=world, uri=(tmp_path / "mount" / "x").as_uri())
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    builder = datasets.load_dataset_builder(str(tmp_path / "mount" / "x"), "samples", cache_dir=str(tmp_path / "cache"))
    (files,) = builder.config.data_files.values()
    assert {Path(name).name for name in files} == {"samples.parquet"} and len(files) == len(
        list(world.glob("parts/*/"))
    )


def test_the_hub_gets_a_card_at_the_top_of_the_repository(world, monkeypatch):
    from relope.store.share import remote_hub
    from tests.store.share.test_remote_hub import Hub

    fake = Hub()
    fake.commits[0]["README.md"] = b"---\nlicense: cc-by-sa-4.0\n---\n"
    monkeypatch.setattr(remote_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(remote_hub, "HfFileSystem", lambda use_listings_cache: fake)
    assert step("store push", store=world, uri="hf://datasets/team/states").facts["card"] == "written"
    front = DatasetCard(fake.commits[-1]["README.md"].decode()).data
    assert front.license == "cc-by-sa-4.0" and front.configs[0]["data_files"] == "parts/*/samples.parquet"
    n = len(fake.commits)
    assert step("store push", store=world, uri="hf://datasets/team/states").reused and len(fake.commits) == n
    fake.commits.append({".gitattributes": b"", "README.md": b"---\nlicense: mit\n---\n"})
    step("router push", router=f"{world}.routers/probe", uri="hf://models/team/states")
    card = ModelCard(fake.commits[-1]["README.md"].decode())
    assert card.data.license == "mit" and card.data.eval_results and "router.json" in fake.commits[-1]


def test_a_store_that_nobody_judged_or_measured_says_so(store_path, tmp_path):
    store = Path(shutil.copytree(store_path, tmp_path / "tiny.zarr"))
    shutil.rmtree(store / "grades")
    (tmp_path / "mount").mkdir()
    step("store push", store=store, uri=(tmp_path / "mount" / "x").as_uri())
    text = (tmp_path / "mount" / "x" / "README.md").read_text()
    assert "nobody has judged them" in text and "Not known: no report was there when this was shared." in text
    assert "None is given here: ask who shared it." in text and "license" not in DatasetCard(text).data.to_dict()
    assert "AUC" not in text and "is right on" not in text


def test_a_report_about_other_samples_is_not_quoted(world, store_path, tmp_path):
    (tmp_path / "mount").mkdir()
    uri = (tmp_path / "mount" / "x").as_uri()
    other = tmp_path / "other.zarr"
    step("store pull", uri=str(world), out=other, split=("train",))
    with pytest.raises(InvalidInputError, match="is about other samples than"):
        step("store push", store=other, uri=uri, report=f"{world}.report")
    assert not (tmp_path / "mount" / "x").exists()
    shutil.copytree(f"{world}.report", f"{other}.report")
    step("store push", store=other, uri=uri)
    assert "Not known: the report beside it is about other samples." in readme(uri)
    with pytest.raises(NotFoundError, match="has no report"):
        step("store push", store=other, uri=uri, report=tmp_path / "nowhere")


def test_a_readme_that_people_wrote_stays(world, tmp_path):
    (tmp_path / "mount").mkdir()
    uri = (tmp_path / "mount" / "x").as_uri()
    step("store push", store=world, uri=uri)
    path = tmp_path / "mount" / "x" / "README.md"
    mended = path.read_text().replace("## Not for", "## Our rules\n\nAsk first.\n\n## Not for")
    path.write_text(mended)
    told = step("store push", store=world, uri=uri, license="mit")
    assert told.facts["card"] == "another's" and path.read_text() == mended
    assert "is not one that relope made: it stays" in told.text
    path.write_bytes(b"\xff\xfe not text")
    assert step("store push", store=world, uri=uri).facts["card"] == "another's"


@pytest.mark.parametrize("front, kept", [
    ("---\nlicense: cc-by-nc-4.0\n---\n", "cc-by-nc-4.0"), ("---\r\nlicense: mit\r\n---\r\n", "mit"), ("", None),
    ("---\nlicense: [mit]\n---\n", None), ("---\n- a\n---\n", None), ("---\n[a: {\n---\n", None),
])  # fmt: skip
def test_what_a_new_repository_says_of_its_licence_is_kept(tmp_path, front, kept):
    (tmp_path / "README.md").write_bytes(front.encode())
    asked = []
    assert put_readme(open_remote(as_location(tmp_path)), lambda stated: asked.append(stated) or "# card") == "written"
    assert asked[-1] == kept and "# card" in (tmp_path / "README.md").read_text()


def test_a_router_comes_back_with_a_card_of_its_auc(world, team, tmp_path):
    mine, uri = Path(f"{world}.routers/probe"), f"{team}/probe"
    sent = step("router push", router=mine, uri=uri, license="mit")
    assert not sent.reused and sent.facts["card"] == "written"
    assert step("router push", router=mine, uri=uri).reused
    pulled = step("router pull", uri=uri, out=tmp_path / "theirs")
    assert tree_bytes(pulled.path) == tree_bytes(mine) and "router probe, fitted on 160 samples" in pulled.text
    data = ModelCard(readme(uri)).data
    row = reported(world)["methods"][0]
    (result,) = data.eval_results
    assert isinstance(result, EvalResult) and result.metric_type == "roc_auc" and result.dataset_split == "test"
    assert result.metric_value == round(row["auc"], 4)
    assert result.metric_args == {
        "ci95": [round(bound, 4) for bound in row["ci95"]], "n": 80, "grader": reported(world)["provenance"]["grader"]
    }  # fmt: skip
    assert data.license == "mit" and data.library_name == "relope"
    text = readme(uri)
    assert "router for `tiny-vl`" in text and "learned from: 160 samples (`train` split)" in text
    assert f"relope router pull {uri} --out router" in text


def test_a_router_without_a_report_of_its_own_quotes_no_auc(world, tmp_path):
    (tmp_path / "mount").mkdir()
    uri = (tmp_path / "mount" / "x").as_uri()
    other = step("fit", method="probe", store=world, seed=1, set={"epochs": 2}, out=tmp_path / "alone").path
    with pytest.raises(InvalidInputError, match="is not about the router in"):
        step("router push", router=other, uri=uri, report=f"{world}.report")
    assert not list((tmp_path / "mount").iterdir())
    step("router push", router=other, uri=uri)
    text = readme(uri)
    assert "Its AUC is not known: no report was there" in text and ModelCard(text).data.eval_results is None
    beside = Path(shutil.copytree(other, f"{world}.routers/another"))
    step("router push", router=beside, uri=f"{uri}2")
    assert "Its AUC is not known: the report beside its store is not about it." in readme(f"{uri}2")


def test_a_number_on_what_it_learned_from_is_not_quoted(world, tmp_path):
    (tmp_path / "mount").mkdir()
    report = Path(shutil.copytree(f"{world}.report", tmp_path / "report"))
    value = reported(world)
    value["methods"][0]["seen"] = ["test"]
    (report / "report.json").write_text(json.dumps(value))
    step("router push", router=f"{world}.routers/probe", uri=(tmp_path / "mount" / "x").as_uri(), report=report)
    assert "not known: it was evaluated on samples that it had learned from" in readme((tmp_path / "mount/x").as_uri())
    step("store push", store=world, uri=(tmp_path / "mount" / "y").as_uri(), report=report)
    assert "Not known: the report has no AUC of a router" in readme((tmp_path / "mount/y").as_uri())


def test_a_router_of_an_older_relope_is_not_shared(world, tmp_path):
    from relope.seals import write_sealed_json

    old = Path(shutil.copytree(f"{world}.routers/probe", tmp_path / "old"))
    record = {key: value for key, value in json.loads((old / "router.json").read_text()).items() if key != "sha256"}
    write_sealed_json(old / "router.json", {**record, "files": {}})
    (tmp_path / "mount" / "x").mkdir(parents=True)
    with pytest.raises(StoreError, match="without digests of its files"):
        step("router push", router=old, uri=(tmp_path / "mount" / "x").as_uri())
    for path in old.iterdir():
        shutil.copy(path, tmp_path / "mount" / "x")
    with pytest.raises(StoreError, match="does not name its files by digest"):
        step("router pull", uri=(tmp_path / "mount" / "x").as_uri(), out=tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_bundle_is_not_put_over_another_router(world, tmp_path):
    (tmp_path / "mount").mkdir()
    uri = (tmp_path / "mount" / "x").as_uri()
    step("router push", router=f"{world}.routers/probe", uri=uri)
    bundle = calibrated(world, "probe", tmp_path, epochs=1)
    with pytest.raises(StoreError, match="holds another router: nothing was written"):
        step("router push", router=bundle, uri=uri)
    step("router push", router=bundle, uri=uri, replace=True)
    assert "bundle of probe" in step("router pull", uri=uri, out=tmp_path / "back").text


def test_the_licence_of_a_bundle_is_stated_where_it_is_shared(team, tmp_path):
    mine, uri = written_bundle(tmp_path / "mine"), f"{team}/b"
    before = tree_bytes(mine)
    step("router push", router=mine, uri=uri, license="other")
    assert tree_bytes(mine) == before
    pulled = step("router pull", uri=uri, out=tmp_path / "back").path
    assert ModelCard((pulled / "README.md").read_text()).data.license == "other"
    assert step("router push", router=mine, uri=uri, license="other").reused
    with pytest.raises(InvalidInputError, match="not what a report says"):
        step("router push", router=mine, uri=uri, report=tmp_path)


NASTY = "`x` |\n---\n<script>alert(1)</script>\u2028# Title\r[a](http://b)\x00\u202e--- " + "y" * 500


def test_nothing_that_users_name_is_more_than_text():
    origin = Origin(model=NASTY, source="team/repo", dataset=NASTY, repository="team/data", data_license=NASTY)
    measured = Measured(
        method=NASTY, auc=0.7, ci95=None, n=10, n_groups=5, dataset=NASTY, splits=(NASTY,), grader=NASTY, n_fits=3
    )
    made = made_bundle()
    of_bundle = dataclasses.replace(
        made,
        model=NASTY,
        method=NASTY,
        made=dataclasses.replace(made.made, dataset=NASTY, splits=(NASTY,), grader=NASTY),
    )
    front = router_front(NASTY, "probe", origin, None, measured)
    texts = [card("parts", front), card_text(of_bundle)]
    for text in texts:
        data = ModelCard(text).data
        assert data.library_name == "relope" and data.eval_results and data.eval_results[0].dataset_name == line(NASTY)
        body = text.split("\n---\n", 1)[1]
        assert "\u202e" not in body and "\x00" not in body
        outside = re.sub(r"`[^`\n]*`", "", body)
        assert "<script>" not in outside and "alert" not in outside and "](http" not in outside
        assert not re.search(r"^(---|# Title)", body, re.MULTILINE)
    assert ModelCard(texts[0]).data.base_model == "team/repo"


@pytest.mark.parametrize("source", ["/home/me/models/x", "package:tiny-vl", "x", "a/b/c", "https://host/v1"])
def test_only_what_may_be_a_repository_is_called_a_base_model(source):
    origin = Origin.of({"model": "m", "source": source}, "d", {"dataset": {"repository": "../x"}})
    front = router_front("r", "probe", origin, None, None).to_dict()
    assert "base_model" not in front and "datasets" not in front and "/home/me" not in origin.source


def test_what_a_data_set_s_card_says_of_its_licence_is_recorded(tmp_path, monkeypatch):
    from relope.extract.data import tables

    monkeypatch.setattr(tables, "hub_folder", lambda repository: tmp_path)
    assert tables.hub_license("a/b") == ""
    cards = {"---\nlicense: mit\n---\n# x": "mit", "# x": "", "---\nlicense:\n- a\n- b\n---\n": "", "---\n[\n---\n": ""}
    for text, license in cards.items():
        (tmp_path / "README.md").write_text(text)
        assert tables.hub_license("a/b") == license
