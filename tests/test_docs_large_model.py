"""Every command of docs/large-model.md, in order, against a server that gives the answers of tiny-vl-large."""

import pytest
from openai_stub import Stub, key_of
from pages import ROOT, Walk
from stepping import step

from relope.extract.data.open import open_dataset
from relope.extract.endpoint.messages import messages_of
from relope.extract.view import View
from relope.store import open_store, verify

WALK = Walk("docs/large-model.md")
KEY = "sk-of-nobody-4711"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The page, worked through: the folder, and what each command said."""
    folder = tmp_path_factory.mktemp("large")
    large = folder / "local.zarr"
    fields = {"model": "tiny-vl-large", "dataset": "tiny", "split": "test", "limit": 80}
    step("extract", **fields, tokens="lean", device="cpu", out=large)
    answers = dict(open_store(large).samples.select("id", "response").iter_rows())
    samples = View().worded(open_dataset("tiny").load("test", 80))
    table = {key_of(messages_of(sample, False, None)): answers[sample.id] for sample in samples}
    with pytest.MonkeyPatch.context() as patch, Stub(table) as stub, WALK as walk:
        patch.chdir(folder)
        patch.setenv("OPENAI_API_KEY", KEY)
        walk.here = {"http://localhost:8000/v1": stub.url}
        walk.run_all()
        asked = dict(stub.counts)
    return folder, walk.said, table, asked


def test_each_question_was_asked_once_a_model(ran):
    folder, said, table, asked = ran
    assert len(said) >= 8 and set(asked) == set(table) and set(asked.values()) == {2}
    plan = next(text for line, text in said.items() if line.startswith("relope plan"))
    assert "80 questions with 80 images to ask gpt-4.1, 0 are answered" in " ".join(plan.split())
    assert KEY not in "".join(said.values())
    both = next(text for line, text in said.items() if line.endswith("both.report"))
    assert "Large models on the queue of" in both and "gpt-4.1-mini" in both and "oracle over all" in both
    assert verify(folder / "runs" / "gpt.zarr", deep=True) == []


def test_the_hybrid_numbers_are_those_of_the_model_that_runs_here(ran, monkeypatch):
    folder = ran[0]
    monkeypatch.chdir(folder)
    asked = {"store": "runs/tiny.zarr", "bootstrap": 100}
    reports = [
        step("evaluate", **asked, large_store=store, out=name).report
        for store, name in (("local.zarr", "a"), ("runs/gpt.zarr", "b"))
    ]
    local, told = reports
    assert local.hybrid == told.hybrid and local.curves == told.curves and local.oracle_curve == told.oracle_curve
    assert local.large_name == "tiny-vl-large" and told.large_name == "gpt-4.1"
    assert local.hybrid.large_accuracy > local.hybrid.small_accuracy


def test_the_page_names_every_flag_of_an_endpoint():
    from relope.steps.extraction import ELSEWHERE

    page = (ROOT / "docs" / "large-model.md").read_text(encoding="utf-8")
    missing = [name for name in ("endpoint", *ELSEWHERE) if f"--{name.replace('_', '-')}" not in page]
    assert missing == []
