"""Stores that travel: the same on a shared mount as on an S3 server."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_stores import PARTS, make_capture, make_manifest, names_at, tree_bytes, write_part

from relope.errors import NotFoundError, OutputError, StoreError
from relope.store import ActivationStore, verify
from relope.store.share import threads as threads_module
from relope.store.share import transfer as transfer_module
from relope.store.share.gc import gc
from relope.store.share.listing import listing
from relope.store.share.pull import merge, pull
from relope.store.share.push import push
from relope.store.share.remote_folder import FolderRemote
from relope.store.share.remote_objects import ObjectRemote


def test_a_store_comes_back_as_it_was(made, uri, tmp_path):
    sent = push(made.path, uri)
    assert sent.parts == made.parts and sent.kept == [] and sent.n_samples == 7 and sent.catalog == 1
    got = pull(uri, tmp_path / "y.zarr")
    assert got.parts == made.parts and got.n_samples == 7 and got.n_bytes == sent.n_bytes
    assert got.content_id == sent.content_id == ActivationStore.open(made.path).content_id
    assert tree_bytes(tmp_path / "y.zarr") == tree_bytes(made.path)
    assert verify(tmp_path / "y.zarr", deep=True) == []
    assert sorted(names_at(uri)) == sorted(tree_bytes(made.path))


def test_again_nothing_moves(made, uri, tmp_path):
    push(made.path, uri)
    pull(uri, tmp_path / "y.zarr")
    again = push(made.path, uri)
    assert (again.parts, again.n_bytes, again.catalog, again.differing) == ([], 0, 1, [])
    back = pull(uri, tmp_path / "y.zarr")
    assert (back.parts, back.kept, back.n_bytes) == ([], made.parts, 0)


def test_a_grown_store_sends_and_gets_only_what_is_new(build, uri, tmp_path):
    small = build("a.zarr", parts=PARTS[:1])
    push(small.path, uri)
    pull(uri, tmp_path / "y.zarr")
    new = write_part(small.writer, PARTS[1], {name: make_capture(name, small.manifest) for name in PARTS[1]})
    sent = push(small.path, uri)
    assert sent.parts == [new] and sent.catalog == 2
    assert pull(uri, tmp_path / "y.zarr").parts == [new]
    assert ActivationStore.open(tmp_path / "y.zarr").content_id == sent.content_id


def test_listing(made, team, uri):
    push(made.path, uri)
    found = listing(uri)
    assert found["n_samples"] == 7 and found["layers"] == [2, 3] and found["unfinished"] == []
    assert [part["part"] for part in found["parts"]] == made.parts
    assert [part["n_samples"] for part in found["parts"]] == [3, 1, 3]
    assert [store["uri"] for store in listing(team)["stores"]] == [uri]
    json.dumps(found)


@pytest.mark.parametrize("method", ["upload", "swap", "delete"])
def test_an_interrupted_push_is_never_half_seen_and_continues(small, uri, fail, tmp_path, method):
    for n in range(1, 40):
        fail(method, n)
        try:
            push(small.path, uri)
            break
        except KeyboardInterrupt:
            if "zarr.json" in names_at(uri):
                for part in listing(uri)["parts"]:  # complete, or not there
                    assert part["n_samples"] == 2
                    assert len(pull(uri, tmp_path / f"y{n}.zarr").parts) == 1
    assert 1 < n < 39
    pull(uri, tmp_path / "end.zarr")
    assert tree_bytes(tmp_path / "end.zarr") == tree_bytes(small.path)


KILL = """
import os, signal, sys
from pathlib import Path
from relope.store.share import threads, transfer
from relope.store.share.pull import pull
from relope.store.share.push import push
from relope.store.share.remote_folder import FolderRemote
verb, store, uri, step = sys.argv[1:]
threads.N_THREADS, transfer._BLOCK_BYTES, left = 1, 1000, [int(step)]
for name in ("upload", "swap") if verb == "push" else ("read_range",):
    def dying(self, *arguments, real=getattr(FolderRemote, name)):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)
    setattr(FolderRemote, name, dying)
push(Path(store), uri) if verb == "push" else pull(uri, Path(store))
"""


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_killed_it_continues(small, tmp_path, verb):
    (tmp_path / "mount").mkdir()
    uri, out, codes = (tmp_path / "mount" / "x.zarr").as_uri(), tmp_path / "y.zarr", []
    if verb == "pull":
        push(small.path, uri)
    for step in (3, 9, 50):
        command = [sys.executable, "-c", KILL, verb, small.path if verb == "push" else out, uri, str(step)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        codes.append(done.returncode)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    pull(uri, out)
    assert tree_bytes(out) == tree_bytes(small.path) and verify(out, deep=True) == []


def test_an_interrupted_pull_continues_where_it_stopped(small, uri, fail, monkeypatch, tmp_path):
    push(small.path, uri)
    monkeypatch.setattr(transfer_module, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(threads_module, "N_THREADS", 1)
    kind = FolderRemote if uri.startswith("file") else ObjectRemote
    out, fetched, real = tmp_path / "y.zarr", [], kind.read_range

    def counting(self, name, start, stop):
        fetched.append((name, start, stop))
        return real(self, name, start, stop)

    monkeypatch.setattr(kind, "read_range", counting)
    for _ in range(3):
        fail("read_range", 3)
        with pytest.raises(KeyboardInterrupt):
            pull(uri, out)
        assert ActivationStore.open(out).parts == ()
    done = pull(uri, out)
    assert tree_bytes(out) == tree_bytes(small.path)
    assert len(fetched) == len(set(fetched)) and done.n_bytes == sum(stop - start for _, start, stop in fetched)


def test_two_pulls_into_one_store_do_not_mix(small, uri, tmp_path):
    push(small.path, uri)
    pull(uri, tmp_path / "y.zarr")
    shutil.rmtree(tmp_path / "y.zarr" / "parts" / small.parts[0])
    with (
        transfer_module.staging(tmp_path / "y.zarr", small.parts[0]),
        pytest.raises(OutputError, match="another process is pulling"),
    ):
        pull(uri, tmp_path / "y.zarr")


def test_a_damaged_part_is_not_shared(small, uri):
    shard = small.folder() / "last" / "3" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    with pytest.raises(StoreError, match="damaged, so it is not shared"):
        push(small.path, uri)
    assert listing(uri)["parts"] == []


def test_another_recipe_is_refused(small, build, uri):
    push(small.path, uri)
    other = build("b.zarr", manifest=make_manifest(identity={"model": {"name": "tiny", "digest": "cd"}}))
    with pytest.raises(StoreError, match=r"another recipe.*model\.digest was \"ab\", now \"cd\"") as said:
        push(other.path, uri)
    assert f"{uri.removesuffix('.zarr')}-" in said.value.hint
    with pytest.raises(StoreError, match="holds another recipe"):
        pull(uri, other.path)
    with pytest.raises(StoreError, match=r"another recipe than .*: .*model\.digest was"):
        merge([small.path, other.path], other.path.with_name("m.zarr"))
    assert not other.path.with_name("m.zarr").exists()


def test_nothing_there(team, tmp_path):
    with pytest.raises(NotFoundError, match="there is no store at"):
        pull(f"{team}/nothing.zarr", tmp_path / "y.zarr")
    with pytest.raises(NotFoundError, match="there is no store at"):
        listing(team)
    with pytest.raises(NotFoundError, match="there is no store at"):
        gc(f"{team}/nothing.zarr")
    with pytest.raises(NotFoundError):
        push(tmp_path / "nothing.zarr", f"{team}/x.zarr")
    assert not Path(tmp_path / "y.zarr").exists()


def test_a_store_is_not_poured_into_a_folder_of_stores(made, team, uri):
    push(made.path, uri)
    with pytest.raises(StoreError, match=r"holds other things \(x\.zarr\), not a store") as said:
        push(made.path, team)
    assert f"{team}/x.zarr" in said.value.hint
    assert listing(team)["stores"]


def test_a_full_disk_keeps_what_is_sealed(made, uri, tmp_path, monkeypatch):
    push(made.path, uri)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(OutputError, match="1,000 free"):
            pull(uri, tmp_path / "y.zarr")
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 60:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            pull(uri, tmp_path / "y.zarr")
    sealed = ActivationStore.open(tmp_path / "y.zarr").parts
    assert 0 < len(sealed) < 3 and verify(tmp_path / "y.zarr") == []
    done = pull(uri, tmp_path / "y.zarr")
    assert set(done.kept) == set(sealed) and tree_bytes(tmp_path / "y.zarr") == tree_bytes(made.path)
