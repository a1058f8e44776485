"""README.md and the pages whose commands take its store, one after another, with fewer questions than they say."""

import functools
from pathlib import Path

import pytest
from pages import Walk, blocks, unnumbered
from stepping import step

import relope
from relope.store import open_store

README = Walk("README.md")
FITTING = Walk("docs/fitting.md")
FORMAT = Walk("docs/store-format.md")
BACKBONES = Walk("docs/backbones.md")
EVALUATION = Walk("docs/evaluation.md")
FUSION = Walk("docs/methods/fusion.md")
FUSION_PREFILL = Walk("docs/methods/fusion-prefill.md")
FEW = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the README was worked through."""
    made = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch, README as walk:
        patch.chdir(made)
        patch.setattr(relope, "extract", functools.partial(relope.extract, limit=FEW))
        walk.flags = {"extract": ["--limit", str(FEW)]}
        walk.run_all()
    return made


def test_the_readme_leaves_a_report_and_two_routers(folder):
    assert (folder / "runs/tiny.zarr.report/report.html").is_file()
    assert {path.name for path in (folder / "runs/tiny.zarr.routers").iterdir()} >= {"attention-probe", "probe"}


def test_fitting(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with open_store("runs/tiny.zarr") as store, FITTING as walk:
        walk.here = {"ID": store.samples["id"][0]}
        walk.run_all()
    assert Path("adapter/adapter_config.json").is_file() and Path("decided.csv").is_file()
    assert list(Path("runs/tiny.zarr.explained").glob("*/attention.html"))


def test_stacks(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with FUSION as after, FUSION_PREFILL as before:
        after.run_all()
        before.run_all()
    assert {path.name for path in Path("runs/tiny.zarr.routers").iterdir()} >= {"fusion", "fusion-prefill"}


def test_the_format(folder, monkeypatch):
    monkeypatch.chdir(folder)
    step("extract", model="tiny-vl", dataset="tiny-clock", split="test", limit=8, out="runs/mine.zarr")
    with FORMAT as walk:
        walk.run_all()
    assert len(walk.names["both"]) == 3 * FEW + 8


def test_a_plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with BACKBONES as walk:
        (plan,) = walk
    (shown,) = [block for block in blocks(walk.page) if block.shown]
    for line in shown.text.splitlines():
        alike = line[:5] if line.startswith(("free", "about")) else line  # GiB or TiB, seconds or minutes
        assert unnumbered(alike) in unnumbered(plan.text), line


def test_a_pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with EVALUATION as walk:
        listed, dry = walk
    assert "tiny-table2" in listed.text and "evaluate" in dry.text
    assert list(tmp_path.iterdir()) == [], "nothing has run"
