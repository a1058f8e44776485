"""D: results on stdout, notes on stderr, JSON on an error too, flags by their names, help that helps."""

import io
import json
import shlex
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relope.asked import AskedOtherwise
from relope.cli import app
from relope.commands import console, heartbeat, show
from relope.commands.examples import EXAMPLES
from relope.fields import panels
from relope.locations import as_location
from relope.spec import SPECS, ExtractSpec
from relope.types import Outcome, TextTable
from relope.words import alternatives, counted

COMMANDS = (*SPECS, "demo", "run", "list")


def relope(*words, **environment):
    result = CliRunner(env=environment).invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_d_results_on_stdout_and_notes_on_stderr(capsys, tmp_path):
    table = TextTable("t", ["a"], [["1"]])
    show.show(Outcome(tmp_path, text="what it did", note="try next", tables=[table]), False, False)
    said = capsys.readouterr()
    assert "what it did" in said.out and "1" in said.out and said.err == "try next\n"
    show.show(Outcome(tmp_path, text="what it did", note="try next"), False, True)
    assert capsys.readouterr() == ("what it did\n", "")


@pytest.mark.parametrize("command", ["grade --store {store}", "store verify {store}", "store gc {store}"])
def test_d_every_result_is_on_stdout(command, store_path):
    said = relope(*command.format(store=store_path).split())
    assert said.exit_code == 0 and str(store_path) in said.stdout and not said.stderr


def test_d_plan_tells_its_bill_on_stdout(tmp_path):
    said = relope("plan", "--model", "tiny-vl", "--dataset", "tiny-bars", "--limit", "5", "--out", tmp_path / "x.zarr")
    assert said.exit_code == 0 and "sample" in said.stdout and not said.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("extract --model tiny-v --dataset tiny", "unknown model 'tiny-v'"),
        ("extract --model tiny-vl --dataset tiny --limit 0", "--limit 0: must be at least 1"),
        ("extract --modell x", "no such option --modell; did you mean --model?"),
        ("extract", "missing option '--model'"),
        ("extrakt", "did you mean 'extract'?"),
        ("store inf x", "did you mean 'info'?"),
        ("list things", "unknown kind 'things'"),
        ("run nothing", "unknown pipeline"),
        ("store info {tmp}/nowhere", "nowhere"),
    ],
)
def test_d_with_json_an_error_is_json_too(command, says, tmp_path):
    words = command.format(tmp=tmp_path).split()
    said = relope(*words, "--json")
    error = json.loads(said.stdout)["error"]
    assert (
        says in error["message"] and error["code"] == said.exit_code == 2 and set(error) == {"message", "hint", "code"}
    )
    plain = relope(*words)
    assert plain.stdout == "" and says in plain.stderr and len(plain.stderr.splitlines()) <= 2


def test_d_an_interrupt_is_told_as_json(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(show, "run_and_show", interrupted)
    said = relope("grade", "--store", "x", "--json")
    assert said.exit_code == 130 and json.loads(said.stdout)["error"]["code"] == 130
    assert "goes on from there" in said.stderr


def test_d_a_bug_keeps_its_traceback(monkeypatch):
    def wrong(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(show, "run_and_show", wrong)
    with pytest.raises(ZeroDivisionError):
        relope("grade", "--store", "x")


def test_d_quiet_leaves_the_result(store_path):
    loud, quiet = relope("grade", "--store", store_path), relope("grade", "--store", store_path, "-q")
    assert quiet.stdout == loud.stdout and quiet.stderr == ""


def test_d_quiet_silences_a_pipeline(tmp_path):
    import textwrap

    (tmp_path / "pipelines.yaml").write_text(
        textwrap.dedent("""
            little:
              about: one step
              stages:
                s:
                  run: extract
                  with: {model: tiny-vl, dataset: tiny-bars, split: test, limit: 3, out: "${out}/s.zarr"}
        """)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        said = relope("run", "little", "--out", tmp_path / "out", "--quiet")
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", "")


def test_d_a_line_now_and_then_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.01)
    told = threading.Event()
    real = console.note

    def note(text):
        real(text)
        told.set()

    monkeypatch.setattr(console, "note", note)
    with console.progress("extract tiny") as progress:
        progress(1200, 3000)
        assert told.wait(10)
    assert "extract tiny: 1,200 of 3,000, running for 0 s" in sys.stderr.getvalue()
    told.clear()
    with console.board(2) as board:
        board.begin(0, "[1/2] fit")(3, 4)
        assert told.wait(10)
        board.end(0, "[1/2] fit", "done")
    assert "[1/2] fit: 3 of 4, running for 0 s" in sys.stderr.getvalue()
    assert sys.stderr.getvalue().splitlines()[-1] == "[1/2] fit: done"


def test_d_a_heartbeat_is_half_a_minute_and_stops_with_what_runs():
    said = []
    with heartbeat.heartbeat(said.append) as beat:
        beat.begin("fit")
        assert beat.lines() == ["fit: running for 0 s"]
        beat.end("fit")
        assert beat.lines() == []
    assert heartbeat.EVERY_S == 30 and said == []


@pytest.mark.parametrize("command", COMMANDS)
def test_d_help_has_two_examples_that_can_be_typed(command, monkeypatch):
    """Each example is read into its specification."""
    specs = []
    monkeypatch.setattr(show, "run_and_show", lambda spec, as_json, quiet: specs.append(spec))
    page = relope(*command.split(), "--help", COLUMNS="200").stdout
    assert len(EXAMPLES[command]) == 2 and "Examples:" in page
    for line in EXAMPLES[command]:
        assert line in page and line.startswith(f"relope {command}")
        if command in SPECS:
            assert relope(*shlex.split(line)[1:]).exit_code == 0
            assert specs.pop().step == command


@pytest.mark.parametrize("command", COMMANDS)
def test_d_help_names_what_a_flag_takes(command):
    page = relope(*command.split(), "--help", COLUMNS="200").stdout
    for private in ("<str>", "<int>", "<bool>", "<list", "verdict", "traces", "block l "):
        assert private not in page
    assert "--quiet" in page and "--json" in page


def test_d_help_of_extract_is_in_panels():
    titles = ["Model", "Data", "What is kept", "Answers", "Hardware", "A model that runs elsewhere", "Output"]
    assert list(dict.fromkeys(panels(ExtractSpec).values())) == titles
    page = relope("extract", "--help").stdout
    shown = [page.index(f"─ {title} ─") for title in titles]
    assert shown == sorted(shown) and "─ Options ─" not in page


@pytest.mark.parametrize(
    ("words", "expected"),
    [("relope fit pro", "probe"), ("relope extract --codec z", "zstd"), ("relope store in", "info")],
)
def test_d_completion_completes_names(words, expected):
    typed = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert expected in relope(_RELOPE_COMPLETE="complete_bash", **typed).stdout.split()


def test_d_plurals_by_one_helper():
    assert [counted(n, "sample") for n in (0, 1, 2, 1200)] == ["0 samples", "1 sample", "2 samples", "1,200 samples"]
    assert counted(1, "query", "queries") == "1 query" and counted(2, "query", "queries") == "2 queries"
    assert alternatives("abc") == "a, b or c" and alternatives(["a"]) == "a" and alternatives(["a", "b"]) == "a or b"


def test_d_what_differs_has_its_verb():
    told = {parts: str(AskedOtherwise("q26", parts, 1)) for parts in (("question",), ("images",), ("question", "hint"))}
    assert told == {
        ("question",): "q26's question differs",
        ("images",): "q26's images differ",
        ("question", "hint"): "q26's question and hint differ",
    }


def test_d_a_missing_folder_is_told_by_the_one_above(tmp_path):
    said = relope("store", "ls", tmp_path / "none" / "x.zarr")
    assert said.exit_code == 2 and f"`relope store ls {tmp_path}` shows" in said.stderr
    assert as_location("s3://bucket").above == as_location("hf://datasets/team/repo").above == ""
    assert as_location("s3://bucket/a.zarr").above == "s3://bucket"


def test_d_an_image_is_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    assert "picture" not in relope("run").stdout and "picture" not in relope("extract", "--help").stdout
