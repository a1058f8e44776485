"""The commands of docs/your-data.md, run as they stand there."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from caption_server import honest, server
from typer.testing import CliRunner

from relope.cli import app
from relope.provenance import write_bytes

PAGE = (Path(__file__).parents[1] / "docs" / "your-data.md").read_text(encoding="utf-8")


def test_every_command_of_your_data_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_KEY", "sk-of-nobody")
    for snippet in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        Path("snippet.py").write_text(snippet, encoding="utf-8")
        runpy.run_path("snippet.py")
    blocks = re.findall(r"```\n(.*?)```", re.sub(r"```python\n.*?```", "", PAGE, flags=re.DOTALL), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith(("relope ", "printf "))]
    assert len(commands) >= 13
    with server(honest) as (url, _):
        for command in commands:
            words = shlex.split(command.replace("http://localhost:8000/v1", url))
            if words[0] == "printf":
                write_bytes(Path(words[-1]), words[1].replace("\\n", "\n").encode())
                continue
            result = CliRunner().invoke(app, words[1:])
            if result.exception and not isinstance(result.exception, SystemExit):
                raise result.exception
            assert result.exit_code == 0, f"{command}\n{result.output}"
    assert (tmp_path / "runs" / "mine.zarr.report" / "report.html").is_file()
    assert (tmp_path / "mine" / "served.jsonl").is_file()


@pytest.mark.parametrize("name", ["datasets.md", "your-data.md"])
def test_pages_name_every_data_set_and_grader(name):
    from relope import registry

    page = (Path(__file__).parents[1] / "docs" / name).read_text(encoding="utf-8")
    known = registry.names("datasets") if name == "datasets.md" else registry.names("graders")
    assert [one for one in known if f"`{one}`" not in page and not one.startswith("tiny-")] == []
