"""B: stores that are unfinished or read-only, file systems without locks, prices that are no UTF-8, early Ctrl-C."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relope.cli import app
from relope.errors import InvalidInputError, OutputError
from relope.evaluate.numbers.costs import read_prices
from relope.provenance import cannot_write, write_bytes
from relope.store.format import claims

UP_TO_DATE = (
    "extract",
    "--model",
    "tiny-vl",
    "--dataset",
    "tiny",
    "--split",
    "test",
    "--limit",
    "80",
    "--device",
    "cpu",
)


def relope(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def read_only(store_path, tmp_path):
    """A copy of the store that refuses every write; root needs a mount for that."""
    copy = tmp_path / "medium" / "tiny.zarr"
    shutil.copytree(store_path, copy)
    if os.geteuid() == 0:
        bind = ["mount", "--bind", str(copy.parent), str(copy.parent)]
        if subprocess.run(bind, capture_output=True, check=False).returncode:
            pytest.skip("root may write everywhere, and may not mount here")
        subprocess.run(["mount", "-o", "remount,ro,bind", str(copy.parent)], check=True)
        yield copy
        subprocess.run(["umount", str(copy.parent)], check=True)
        return
    folders = [copy.parent, copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield copy
    for folder in folders:
        folder.chmod(0o755)


def test_b_a_read_only_store_is_graded_and_extracted_where_nothing_is_to_do(read_only):
    again = relope("grade", "--store", read_only)
    assert again.exit_code == 0 and "answers judged by auto" in again.stdout
    assert "80 samples up to date" in relope(*UP_TO_DATE, "--out", read_only).stdout


def test_b_a_read_only_store_is_told_as_that(read_only):
    more = [*UP_TO_DATE[:8], "81", *UP_TO_DATE[9:]]
    for command in (("grade", "--store", read_only, "--grader", "exact"), (*more, "--out", read_only)):
        said = relope(*command)
        lines = said.stderr.splitlines()
        assert said.exit_code == 2 and len(lines) == 2 and "free space" not in said.stderr
        assert lines[0].startswith("error: cannot write") and "read-only to you" in lines[1]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "free space"),
        (errno.EROFS, "read-only to you"),
        (errno.EACCES, "read-only to you"),
        (errno.ENOTDIR, "something else stands there"),
        (errno.ENOLCK, "keeps no locks"),
        (errno.EOPNOTSUPP, "keeps no locks"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "choose another --out"),
    ],
)
def test_b_a_refused_write_is_told_with_what_helps(number, advice):
    error = cannot_write(Path("x"), OSError(number, os.strerror(number)))
    assert str(error) == f"cannot write x: {os.strerror(number)}" and advice in error.hint
    assert ("free space" in error.hint) == (advice == "free space")


def test_b_a_write_that_cannot_even_be_cleared_up_is_one_error(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refused)
    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(OutputError, match="Read-only file system"):
        write_bytes(tmp_path / "x", b"1")


def test_b_a_file_system_without_locks_is_told_as_that(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / "parts").mkdir()
    asked = ("extract", "--model", "tiny-vl", "--dataset", "tiny-bars", "--split", "test", "--limit", "2")
    said = relope(*asked, "--device", "cpu", "--out", tmp_path / "x.zarr")
    assert said.exit_code == 2 and "keeps no locks" in said.stderr and "free space" not in said.stderr
    with pytest.raises(OutputError) as caught:
        claims.claim(tmp_path, "0" * 32)
    assert "mount it with locks" in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"models: {\xe9: {}}", b"\xff\xfem\x00", b"models: [1", b"\x00", b"", b"- 1", b"models: 3"]
)
def test_b_a_price_list_of_other_bytes_is_refused(content, tmp_path):
    (tmp_path / "prices.yaml").write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        read_prices(tmp_path / "prices.yaml")
    assert str(tmp_path / "prices.yaml") in str(caught.value) and "costs.example.yaml" in caught.value.hint
    assert "\n" not in str(caught.value)


INTERRUPTED = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {library!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.argv = ["relope", *{words!r}.split()]
from relope.__main__ import main
main()
"""


@pytest.mark.parametrize("library", ["typer", "pydantic", "yaml", "polars", "torch"])
def test_b_an_interrupt_while_libraries_load_exits_130(library, store_path, tmp_path):
    """It comes as Ctrl-C does, in the middle of an import."""
    words = f"fit relope --store {store_path} --set epochs=1 --out {tmp_path / 'x'} --device cpu"
    code = INTERRUPTED.format(library=library, words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130 and "interrupted" in done.stderr and len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_b_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "relope", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("relope ")
