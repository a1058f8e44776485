"""Every command of docs/judging.md, in order, against a judge that reads as a careful person would."""

import json
import re
import shlex
from pathlib import Path

import pytest
from judging import honest, judging
from openai_stub import Stub
from typer.testing import CliRunner

from relope.cli import app
from relope.store.grade_files import orders

PAGE = (Path(__file__).parents[1] / "docs" / "judging.md").read_text(encoding="utf-8")
KEY = "sk-of-no-judge-4711"


def test_every_command_of_judging_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked, said = [], []
    with Stub(judging(honest)) as stub:
        for line in "".join(re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)).splitlines():
            words = shlex.split(line.replace("http://localhost:8000/v1", stub.url))
            if words[0] == "printf":
                Path(words[-1]).write_text(words[1].replace("\\n", "\n"), encoding="utf-8")
                continue
            result = CliRunner().invoke(app, words[1:])
            assert words[0] == "relope" and result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
            said.append(result)
            asked.append(len(stub.requests))
    # The second time and with a cap nobody is asked again; the file of responses is one answer more.
    assert 40 < asked[1] <= 80 and asked[1:6] == [asked[1]] * 5 and asked[6] == asked[1] + 1
    words = " ".join(said[1].output.split())
    assert "judged by judge:gpt-4.1@1" in words and "agrees with exact@" in words and "95 % interval" in words
    facts = json.loads(said[5].stdout)
    assert facts["requests"] == 0 and facts["dollars"] > 0 and facts["agreement"]["n"] > 0
    assert json.loads(said[6].stdout)[0]["correct"] is True
    assert "judge:gpt-4.1@1" in orders(tmp_path / "runs" / "tiny.zarr")
    report = json.loads((tmp_path / "runs" / "judged.report" / "report.json").read_text())
    assert report["provenance"]["grader"] == "judge:gpt-4.1@1"
    assert KEY not in "".join(result.output for result in said)


@pytest.mark.parametrize("page", ["your-data.md"])
def test_other_pages_lead_here(page):
    assert "judging.md" in (Path(__file__).parents[1] / "docs" / page).read_text(encoding="utf-8")
