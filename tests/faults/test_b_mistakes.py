"""B: a table of mistakes over every command: exit code 2, at most two lines, what to do, nothing written."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relope.cli import app
from relope.spec import SPECS

MISTAKES = (Path(__file__).parent / "data" / "mistakes.txt").read_text(encoding="utf-8")
TABLE = [tuple(part.strip() for part in line.split(" | ")) for line in MISTAKES.strip().splitlines()]


def invoke(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def world(tmp_path_factory, store_path):
    """A store with a router and scores, and what mistakes are made with."""
    tmp = tmp_path_factory.mktemp("mistakes")
    (tmp / "busy").mkdir()
    (tmp / "busy" / "thesis.txt").write_text("mine")
    (tmp / "file").write_text("mine")
    (tmp / "empty").write_text("")
    (tmp / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp / "q.jsonl").write_text('{"id": "1", "question": "?", "answer": "a", "split": "train"}\n')
    (tmp / "latin.yaml").write_bytes("models: {é: {}}".encode("latin-1"))
    (tmp / "bad.yaml").write_text("models: [1")
    (tmp / "list.yaml").write_text("- 1")
    for name in ("empty.zarr", "ungraded.zarr"):
        shutil.copytree(store_path, tmp / name)
        shutil.rmtree(tmp / name / "grades")
    for folder in ("catalog", "parts"):
        for inner in (tmp / "empty.zarr" / folder).iterdir():
            shutil.rmtree(inner) if inner.is_dir() else inner.unlink() if folder == "catalog" else None
    names = {"tmp": tmp, "store": store_path, "router": tmp / "routers" / "probe", "scores": tmp / "scores"}
    fit = ("fit", "probe", "--store", store_path, "--out", names["router"], "--set", "epochs=1", "--device", "cpu")
    predict = ("predict", "--router", names["router"], "--store", store_path)
    for made in (fit, (*predict, "--out", names["scores"] / "probe.parquet")):
        assert invoke(*made).exit_code == 0
    return {name: str(path) for name, path in names.items()}


def contents(*folders):
    """Return what lies below folders: name → size and time."""
    paths = (path for folder in folders for path in Path(folder).parent.rglob("*"))
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()}


def test_b_the_table_is_long_and_has_every_command():
    assert len(TABLE) >= 200 and len({command for command, _ in TABLE}) == len(TABLE)
    for step in (*SPECS, "demo", "run", "list"):
        assert any(command.startswith(step) for command, _ in TABLE), step


@pytest.mark.parametrize(("command", "says"), TABLE, ids=[command for command, _ in TABLE])
def test_b_a_mistake_gets_two_lines_and_exit_code_2(command, says, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(world["tmp"], world["store"])
    said = invoke(*(word.format(**world) for word in command.split()))
    lines = said.stderr.strip().splitlines()
    assert (said.exit_code, said.stdout) == (2, "") and lines[0].startswith("error: "), said.output
    assert len(lines) <= 2 and says in said.stderr and "Traceback" not in said.output
    allowed = (
        "(",
        "must be",
        "did you mean",
        "numbers from",
        "can be: ",
        "has no adapter",
        "takes",
        "is no",
        "has its name",
    )
    assert len(lines) == 2 or any(words in lines[0] for words in allowed), "says what is allowed, or what to do next"
    assert contents(world["tmp"], world["store"]) == before and not list(tmp_path.iterdir())


def test_b_an_empty_value_that_is_needed_has_no_default():
    said = invoke("route", "", "--bundle", "nowhere")
    assert said.exit_code == 2 and said.stderr.splitlines() == ["error: QUESTION '' is empty", "give a value"]
