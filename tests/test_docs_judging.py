"""Every command of docs/judging.md, in order, against a judge that reads as a careful person would."""

import json

import pytest
from judging import honest, judging
from openai_stub import Stub
from pages import ROOT, Walk

from relope.store.grade_files import orders

WALK = Walk("docs/judging.md")
KEY = "sk-of-no-judge-4711"


def test_every_command_of_judging_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked, said = [], []
    with Stub(judging(honest)) as stub, WALK as walk:
        walk.here = {"http://localhost:8000/v1": stub.url}
        for told in walk:
            if told.line.startswith("relope"):
                said.append(told)
                asked.append(len(stub.requests))
    # The second time and with a cap nobody is asked again; the file of responses is one answer more.
    assert 40 < asked[1] <= 80 and asked[1:6] == [asked[1]] * 5 and asked[6] == asked[1] + 1
    words = " ".join(said[1].text.split())
    assert "judged by judge:gpt-4.1@1" in words and "agrees with exact@" in words and "95 % interval" in words
    facts = json.loads(said[5].out)
    assert facts["requests"] == 0 and facts["dollars"] > 0 and facts["agreement"]["n"] > 0
    assert json.loads(said[6].out)[0]["correct"] is True
    assert "judge:gpt-4.1@1" in orders(tmp_path / "runs" / "tiny.zarr")
    report = json.loads((tmp_path / "runs" / "judged.report" / "report.json").read_text())
    assert report["provenance"]["grader"] == "judge:gpt-4.1@1"
    assert KEY not in "".join(told.text for told in said)


@pytest.mark.parametrize("page", ["your-data.md"])
def test_other_pages_lead_here(page):
    assert "judging.md" in (ROOT / "docs" / page).read_text(encoding="utf-8")
