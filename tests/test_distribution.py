"""What relope is handed out as: one version everywhere, notes of a release, files that name what there is."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from relope.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LOG = """# Changelog

## [Unreleased]

### Added
- later

## [0.2.0] - 2026-12-01

### Fixed
- a thing

## [0.1.0]
- first

[0.2.0]: https://example.org
"""


def recipe(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["cff-version"], cited["version"], cited["license"]) == ("1.2.0", __version__, PROJECT["license"])
    assert cited["references"][0]["identifiers"][0]["value"] == "arXiv:2603.24787"


def test_release_notes_are_one_section():
    notes = recipe("release_notes")
    assert notes.notes_of("0.2.0", LOG) == "### Fixed\n- a thing" and notes.notes_of("0.1.0", LOG) == "- first"
    assert notes.notes_of("0.2", LOG) == notes.notes_of("9.9.9", LOG) == ""


def test_a_release_of_another_version_or_without_notes_is_refused(capsys, tmp_path, monkeypatch):
    notes = recipe("release_notes")
    assert notes.main("99.0") == 1 and f"says {__version__}, not 99.0" in capsys.readouterr().err
    (tmp_path / "relope").mkdir()
    (tmp_path / "relope" / "version.py").write_text('__version__ = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(LOG.replace("[0.2.0] -", "[0.3.0] -"))
    monkeypatch.setattr(notes, "ROOT", tmp_path)
    assert notes.main("0.2.0") == 1 and "no section" in capsys.readouterr().err
    (tmp_path / "CHANGELOG.md").write_text(LOG)
    assert notes.main("0.2.0") == 0 and capsys.readouterr().out == "### Fixed\n- a thing\n"


def test_images_are_pinned_and_not_run_by_root():
    for name in ("Dockerfile", "Dockerfile.cuda"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
            assert re.fullmatch(r"\S+:v?\d+\.\d+\.\d+\S*", image), image
        assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "1000"
        for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
            for source in copied.split():
                assert (ROOT / source).exists()
                assert f"!{source}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_the_images_versions_satisfy_what_relope_needs():
    lines = (ROOT / "docker" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    optional = PROJECT["optional-dependencies"]
    for text in (*PROJECT["dependencies"], *optional["serve"], *optional["endpoint"]):
        one = Requirement(text)
        assert one.specifier.contains(pins[canonicalize_name(one.name)]), text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read_and_know_their_scripts(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    for script in re.findall(r"(?:bash|python) ([\w./]+/\w+(?:\.py)?)", " ".join(commands)):
        assert (ROOT / script).is_file()
    assert not any("${{ github.event" in command for command in commands)


def test_the_gate_runs_on_every_python_that_is_promised():
    gate = yaml.safe_load((ROOT / ".github" / "workflows" / "gate.yml").read_text(encoding="utf-8"))
    tried = gate["jobs"]["gate"]["strategy"]["matrix"]["python"]
    assert tried == ["3.11", "3.12", "3.13", "3.14"] and PROJECT["requires-python"] == f">={tried[0]}"
