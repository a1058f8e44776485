"""E10: closed stdout, /dev/full, ASCII-only streams, a working folder that is gone: quiet or a line."""

import errno
import json
import os
import subprocess
import sys

import pytest

from relope.commands import console, endings

RELOPE = [sys.executable, "-m", "relope"]
LIST = [*RELOPE, "list", "methods"]


def run(command, **options):
    coded = {"encoding": "utf-8", "errors": "replace"}
    return subprocess.run(command, stderr=subprocess.PIPE, timeout=60, check=False, **coded, **options)


def shell(line, **options):
    """Run a line of bash in which RELOPE stands for the command; its exit code is the command's."""
    command = line.replace("RELOPE", " ".join(RELOPE))
    return run(["bash", "-c", command], stdout=subprocess.PIPE, **options)


@pytest.mark.parametrize("command", ["list methods", "list methods --json", "--help", "extract --help", "--version"])
def test_e10_a_full_device_is_told_in_a_line(command):
    done = shell(f"RELOPE {command} >/dev/full")
    assert done.returncode == 2 and done.stderr == "error: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize("command", ["list methods", "list methods --json", "--help"])
def test_e10_a_closed_stdout_is_quiet(command):
    done = shell(f"RELOPE {command} >&-")
    assert done.stderr == "" and done.returncode == 0


def test_e10_a_reader_that_went_away_is_quiet():
    done = shell("RELOPE list methods --json | true; exit ${PIPESTATUS[0]}")
    assert done.stderr == "" and done.returncode in (0, 2)  # 0 where it had read what was written before it went


def test_e10_a_broken_pipe_says_nothing(monkeypatch, capsys):
    def gone(*_):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # given back afterwards
    assert endings.exit_code(gone, []) == 2
    sys.stdout.close()
    assert capsys.readouterr().err == ""


def test_e10_errors_go_on_without_stderr():
    assert shell("RELOPE list things 2>&-").returncode == 2
    assert shell("RELOPE list things 2>/dev/full").returncode == 2
    both = shell("RELOPE list things --json 2>&-")
    assert json.loads(both.stdout)["error"]["code"] == 2 and both.returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_e10_streams_without_our_letters(encoding, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for command in (["--help"], ["fit", "--help"], ["list", "methods"]):
        done = run([*RELOPE, *command], env=environment, stdout=subprocess.PIPE)
        assert done.returncode == 0 and done.stderr == ""
    path = tmp_path / "日本.zarr"
    done = run([*RELOPE, "store", "info", str(path), "--json"], env=environment, stdout=subprocess.PIPE)
    assert done.returncode == 2 and str(path) in json.loads(done.stdout)["error"]["message"]
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2


def test_e10_json_is_whole_in_any_encoding(capsys):
    console.out_json({"a": "é→日"})
    assert json.loads(capsys.readouterr().out) == {"a": "é→日"}


def test_e10_a_working_folder_that_is_gone(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"cd {gone} && rmdir {gone} && exec RELOPE store info x"
    done = shell(line)
    assert done.returncode == 2 and "the working folder is gone" in done.stderr
    assert len(done.stderr.splitlines()) == 2 and "Traceback" not in done.stderr
    assert json.loads(shell(f"mkdir {gone} && {line} --json").stdout)["error"]["code"] == 2


def test_e10_other_faults_of_the_system_stay_bugs():
    def missing():
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    with pytest.raises(FileNotFoundError):
        endings.exit_code(missing, [])

    def denied():
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    with pytest.raises(PermissionError):
        endings.exit_code(denied, [])
