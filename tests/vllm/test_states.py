"""The reader of states: it waits, checks and removes; whatever else lies there is refused in a line."""

import errno
import os
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from relope.errors import OutputError
from relope.vllm import states
from relope.vllm.states import StatesError, default_folder, ready_folder, sweep, take

NAME = f"{'0' * 32}.safetensors"
TOLD = {"relope_states": {"file": NAME, "layers": [3, 4], "tokens": 5}}


def written(folder, n=5, **more):
    tensors = {"block.3": torch.randn(n, 8), "block.4": torch.randn(n, 8), "token_ids": torch.arange(n), **more}
    (folder / NAME).write_bytes(save(tensors))
    return tensors


def test_states_are_read_once(tmp_path):
    tensors = written(tmp_path)
    handed = take(tmp_path, TOLD, (3, 4))
    assert torch.equal(handed.blocks[3], tensors["block.3"]) and torch.equal(handed.token_ids, torch.arange(5))
    with pytest.raises(StatesError, match=r"no states .* within 0\.01 s"):
        take(tmp_path, TOLD, (3, 4), timeout_s=0.01)


def test_nothing_is_waited_for_of_a_server_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "_LOOK_S", 0.02)
    asked = iter([True, True, False])
    with pytest.raises(StatesError, match="does not answer any more"):
        take(tmp_path, TOLD, (3, 4), 60, lambda: next(asked))
    assert next(asked, None) is None


def test_a_full_file_system_is_told_with_the_way_out(tmp_path):
    (tmp_path / NAME).write_text(str(errno.ENOSPC))
    with pytest.raises(StatesError, match=r"its file system is full \([\d,]+ of [\d,]+ MiB") as full:
        take(tmp_path, TOLD, (3, 4))
    assert "--vllm-states" in full.value.hint and not (tmp_path / NAME).exists()


def test_it_waits_for_them(tmp_path):
    writer = threading.Timer(0.1, written, [tmp_path])
    writer.start()
    assert len(take(tmp_path, TOLD, (3, 4)).token_ids) == 5
    writer.join()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (None, "hands no states over"),
        ({}, "hands no states over"),
        ({"relope_states": 3}, "does not tell where"),
        ({"relope_states": {"file": "../../etc/passwd", "layers": [3, 4], "tokens": 5}}, "does not tell where"),
        ({"relope_states": {"file": NAME, "layers": [3, 4], "tokens": "5"}}, "does not tell where"),
        ({"relope_states": {"file": NAME, "layers": [5], "tokens": 5}}, r"the blocks \[5\], not \[3, 4\]"),
    ],
)
def test_what_a_server_tells_is_checked(tmp_path, told, why):
    written(tmp_path)
    with pytest.raises(StatesError, match=why):
        take(tmp_path, told, (3, 4), timeout_s=0.01)
    assert (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 7,
        b"\xff" * 64,
        (1 << 40).to_bytes(8, "little") + b"{}",
        save({"block.3": torch.zeros(5, 8), "block.4": torch.zeros(5, 8)}),
        save({"block.3": torch.zeros(5, 8), "block.4": torch.zeros(5, 9), "token_ids": torch.arange(5)}),
        save({"block.3": torch.zeros(4, 8), "block.4": torch.zeros(4, 8), "token_ids": torch.arange(4)}),
        save({"block.3": torch.zeros(5, 8), "block.4": torch.zeros(5, 8), "token_ids": torch.arange(5)})[:-1],
    ],
)
def test_garbage_is_refused_in_a_line_and_removed(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(StatesError) as refused:
        take(tmp_path, TOLD, (3, 4), timeout_s=0.01)
    assert "\n" not in str(refused.value) and not (tmp_path / NAME).exists()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"x")
    (tmp_path / NAME).symlink_to(tmp_path / "other")
    with pytest.raises(StatesError, match="cannot be read"):
        take(tmp_path, TOLD, (3, 4), timeout_s=0.01)


def test_leftovers_are_swept_and_nothing_else(tmp_path):
    for name in (NAME, f"{NAME}.part", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1, time.time() - 100))
    assert sweep(tmp_path, 1000) == 0 and sweep(tmp_path, 50) == 2 and sweep(tmp_path / "none") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_is_made_for_this_user_alone(tmp_path):
    assert ready_folder(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "file").write_bytes(b"")
    for name in ("link", "file", "file/x"):
        with pytest.raises(OutputError, match="cannot hold states"):
            ready_folder(tmp_path / name)


def test_a_folder_of_others_or_open_to_them_is_refused(tmp_path, monkeypatch):
    folder = ready_folder(tmp_path / "s")
    for mode in (0o750, 0o701, 0o770):
        folder.chmod(mode)
        with pytest.raises(OutputError, match=f"others may look into it .mode {mode:o}, not 700") as open_to_others:
            ready_folder(folder)
        own = folder / "relope-states"
        assert (
            open_to_others.value.hint == f"name one of your own, e.g. {own}, or chmod 700 it if nothing else is there"
        )
    folder.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(OutputError, match=f"it is of user {folder.stat().st_uid}, who could"):
        ready_folder(folder)


@pytest.mark.parametrize(("total", "at"), [(64 << 20, "/tmp"), (1 << 30, "/dev/shm")])
def test_shared_memory_is_taken_where_there_is_enough(monkeypatch, total, at):
    monkeypatch.setattr(states.shutil, "disk_usage", lambda folder: SimpleNamespace(total=total))
    monkeypatch.setattr(states.tempfile, "gettempdir", lambda: "/tmp")
    assert str(default_folder()) == f"{at}/relope-states-{os.getuid()}"
