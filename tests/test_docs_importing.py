"""Every command and snippet of docs/importing.md, in order."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relope import registry
from relope.cli import app
from relope.evaluate.report import read_report

PAGE = (Path(__file__).parents[1] / "docs" / "importing.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The page, worked through: the folder, and what each command said."""
    folder, said = tmp_path_factory.mktemp("importing"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, block in re.findall(r"^```(python)?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
            if kind:
                Path("snippet.py").write_text(block, encoding="utf-8")
                runpy.run_path("snippet.py")
                continue
            for line in block.splitlines():
                result = CliRunner().invoke(app, shlex.split(line)[1:])
                assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
                said[line] = " ".join((result.stdout + result.stderr).split())
    return folder, said


def test_the_page_says_what_was_matched_and_by_whom_it_is_judged(ran):
    _, said = ran
    imported = next(text for line, text in said.items() if line.startswith("relope import"))
    assert "80 answers of large matched to runs/tiny.zarr (80 by id)" in imported and "by imported@1" in imported
    first, again = (text for line, text in said.items() if line.startswith("relope evaluate"))
    assert "large is judged by the tool that its answers come from" in first and "imported@1" not in again


def test_both_reports_have_the_same_numbers(ran):
    folder, _ = ran
    first, again = (read_report(folder / "runs" / name) for name in ("tiny.zarr.report", "judged-alike.report"))
    assert first.hybrid == again.hybrid and first.curves == again.curves and first.hybrid.large_accuracy > 0.5


def test_the_page_names_every_format():
    assert not [name for name in registry.names("importers") if f"| `{name}` |" not in PAGE]
