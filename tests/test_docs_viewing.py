"""The commands of docs/viewing.md are read as they stand; what they show has tests of its own in tests/view."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from relope.cli import app
from relope.commands import show

PAGE = (Path(__file__).parents[1] / "docs" / "viewing.md").read_text(encoding="utf-8")


def test_every_command_of_the_page_is_one(monkeypatch):
    asked = []
    monkeypatch.setattr(show, "run_and_show", lambda spec, as_json, quiet: asked.append(spec.step))
    commands = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    assert asked == ["view", "view", "evaluate"]
