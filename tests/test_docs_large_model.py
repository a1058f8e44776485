"""Every command of docs/large-model.md, in order, against a server that gives the answers of tiny-vl-large."""

import re
import shlex
from pathlib import Path

import pytest
from openai_stub import Stub, key_of
from stepping import step
from typer.testing import CliRunner

from relope.cli import app
from relope.extract.data.open import open_dataset
from relope.extract.endpoint.messages import messages_of
from relope.extract.view import View
from relope.store import open_store, verify

PAGE = (Path(__file__).parents[1] / "docs" / "large-model.md").read_text(encoding="utf-8")
KEY = "sk-of-nobody-4711"


def commands():
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The page, worked through: the folder, and what each command said."""
    folder, said = tmp_path_factory.mktemp("large"), {}
    large = folder / "local.zarr"
    fields = {"model": "tiny-vl-large", "dataset": "tiny", "split": "test", "limit": 80}
    step("extract", **fields, tokens="lean", device="cpu", out=large)
    answers = dict(open_store(large).samples.select("id", "response").iter_rows())
    samples = View().worded(open_dataset("tiny").load("test", 80))
    table = {key_of(messages_of(sample, False, None)): answers[sample.id] for sample in samples}
    with pytest.MonkeyPatch.context() as patch, Stub(table) as stub:
        patch.chdir(folder)
        patch.setenv("OPENAI_API_KEY", KEY)
        for line in commands():
            words = shlex.split(line.replace("http://localhost:8000/v1", stub.url))
            if words[0] == "printf":
                Path(words[-1]).write_text(words[1].replace("\\n", "\n"), encoding="utf-8")
                continue
            result = CliRunner().invoke(app, words[1:])
            assert words[0] == "relope" and result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
            said[line] = result.stdout + result.stderr
        asked = dict(stub.counts)
    return folder, said, table, asked


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

    missing = [name for name in ("endpoint", *ELSEWHERE) if f"--{name.replace('_', '-')}" not in PAGE]
    assert missing == []
