"""Folders that count as a whole: pushed by several people at once, they are one person's or another's, never both's."""

import json
import shutil

import pytest

from relope.errors import OutputError, RelopeError
from relope.locations import as_location
from relope.provenance import file_digest
from relope.store.share import folders
from relope.store.share.folders import Whole, pull_folder, push_folder
from relope.store.share.remote_folder import FolderRemote
from relope.store.share.remote_objects import ObjectRemote
from relope.store.share.schemes import open_remote

THING = Whole("thing", "thing.json", 1 << 16)


@pytest.fixture
def share(uri, tmp_path):
    """Push a thing of one letter."""

    def _share(letter, replace=False):
        folder = tmp_path / letter
        folder.mkdir(exist_ok=True)
        names = ["a.bin", "b.bin", f"of-{letter}.bin"]
        for name in names:
            (folder / name).write_bytes(letter.encode() * 9)
        (folder / "thing.json").write_text(json.dumps({name: file_digest(folder / name) for name in names}))
        files = {name: folder / name for name in names}
        return push_folder(open_remote(as_location(uri)), THING, folder, files, replace, lambda n: None)

    return _share


def _named(folder):
    return json.loads((folder / "thing.json").read_text())


@pytest.fixture
def letter_there(uri, tmp_path):
    """Pull what is shared; return its letter."""

    def _pull():
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        pull_folder(open_remote(as_location(uri)), THING, out, _named, lambda at: None)
        letters = {path.read_text()[0] for path in out.glob("*.bin")}
        assert len(list(out.iterdir())) == 4 and len(letters) == 1
        return letters.pop()

    return _pull


@pytest.mark.parametrize("there", [False, True])
def test_two_pushes_at_once_do_not_mix(share, letter_there, uri, monkeypatch, there):
    if there:
        share("z")
    kind = FolderRemote if uri.startswith("file") else ObjectRemote
    real, said = kind.upload, []

    def upload(self, files, sent):
        if not said:
            said.append("")
            try:
                share("y", replace=there)
            except RelopeError as error:
                said.append(error.lines)
        real(self, files, sent)

    monkeypatch.setattr(kind, "upload", upload)
    assert share("x", replace=there)
    assert "somebody is pushing another thing" in said[1] and said[1].count("\n") == 1
    assert letter_there() == "x"
    assert share("y", replace=True) and letter_there() == "y"
    assert not share("y")
    names = {file.name for file in open_remote(as_location(uri)).files("")} - {".swap.lock"}
    assert names == {"a.bin", "b.bin", "of-y.bin", "thing.json"}


def test_who_comes_second_writes_nothing(share, letter_there, monkeypatch):
    """Another push came to its end between our look and our claim."""
    real, claimed = folders._claim, []

    def claim(*arguments):
        if not claimed:
            claimed.append(1)
            share("y")
        real(*arguments)

    monkeypatch.setattr(folders, "_claim", claim)
    with pytest.raises(OutputError, match=r"others wrote to .* meanwhile"):
        share("x")
    assert letter_there() == "y"


def test_a_claim_of_a_killed_push_holds_for_a_day(share, letter_there, uri, monkeypatch):
    remote = open_remote(as_location(uri))
    assert remote.swap(".lock", b"of nobody", None)
    with pytest.raises(OutputError, match="somebody is pushing another thing"):
        share("x")
    real = folders.time.time
    monkeypatch.setattr(folders.time, "time", lambda: real() + 25 * 3600)
    assert share("x") and letter_there() == "x" and remote.read(".lock") is None


def test_a_push_that_was_taken_for_given_up_does_not_seal(share, letter_there, uri, monkeypatch):
    remote = open_remote(as_location(uri))
    real, kind = type(remote).upload, type(remote)

    def upload(self, files, sent):
        real(self, files, sent)
        remote.delete([".lock"])

    monkeypatch.setattr(kind, "upload", upload)
    with pytest.raises(OutputError, match="others wrote to"):
        share("x")
    monkeypatch.setattr(kind, "upload", real)
    assert share("x") and letter_there() == "x"
