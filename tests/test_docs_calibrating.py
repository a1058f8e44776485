"""The commands and the snippet of docs/calibrating.md, run as they stand there."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from relope.cli import app
from relope.serve.routing import close_sessions

PAGE = (Path(__file__).parents[1] / "docs" / "calibrating.md").read_text(encoding="utf-8")


def test_every_command_of_calibrating_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = re.findall(r"```\n(relope .*?)```", PAGE, re.DOTALL)
    told = []
    for command in block.splitlines():
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
        told.append(result.output)
    assert "share escalated at most 30 %" in told[-2] and re.search(r"P\(correct\) 0\.\d\d, score", told[-1])
    exec(compile("".join(snippets), "snippets", "exec"), {})
    close_sessions()
    printed = capsys.readouterr().out
    assert re.search(r"\d+% escalated, P\(correct\) 0\.\d\d", printed) and re.search(
        r"^(small|large) 0\.", printed, re.M
    )
