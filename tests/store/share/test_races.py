"""Several people push one store at once: on a shared mount as on an S3 server nothing is lost and nothing mixes."""

import contextlib
import os
import shutil
import threading

import pytest
from made_stores import names_at, tree_bytes

import relope.partial as partial_module
import relope.store.share.remote_folder as folder_module
from relope.errors import OutputError, StoreError
from relope.locations import as_location
from relope.store import ActivationStore
from relope.store.share import gc as gc_module
from relope.store.share import threads as threads_module
from relope.store.share.gc import gc
from relope.store.share.listing import listing
from relope.store.share.pull import pull
from relope.store.share.push import push
from relope.store.share.remote_folder import FolderRemote
from relope.store.share.remote_objects import ObjectRemote
from relope.store.share.schemes import open_remote


def test_two_people_pushing_at_once_both_survive(build, uri, tmp_path):
    people = [build(f"{ids}.zarr", parts=[ids]) for ids in ("abc", "d", "ef", "g")]
    start, errors = threading.Barrier(len(people)), []

    def share(made):
        start.wait()
        try:
            push(made.path, uri)
        except BaseException as error:  # noqa: BLE001  (the test looks at it)
            errors.append(error)

    threads = [threading.Thread(target=share, args=(made,)) for made in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    pull(uri, tmp_path / "y.zarr")
    assert set(ActivationStore.open(tmp_path / "y.zarr").samples["id"]) == set("abcdefg")
    assert ActivationStore.open(tmp_path / "y.zarr").content_id == listing(uri)["content_id"]


def test_who_loses_the_race_for_a_catalog_retries(build, uri, monkeypatch):
    mine, theirs = build("a.zarr", parts=["abc"]), build("b.zarr", parts=["d"])
    push(theirs.path, uri)
    remote = open_remote(as_location(uri))
    first = remote.read("catalog/1.json").content
    remote.delete(["catalog/1.json"])
    real = type(remote).swap

    def swap(self, name, content, tag):
        if name == "catalog/1.json" and content != first:
            assert real(self, name, first, None)  # they take the number between our look and our write
        return real(self, name, content, tag)

    monkeypatch.setattr(type(remote), "swap", swap)
    done = push(mine.path, uri)
    assert done.catalog == 2 and done.n_samples == 4
    assert [part["part"] for part in listing(uri)["parts"]] == [*theirs.parts, *mine.parts]


def test_of_two_versions_of_a_part_the_first_counts(rivals, uri, tmp_path):
    one, two = rivals
    push(one.path, uri)
    second = push(two.path, uri)
    assert second.parts == [] and second.differing == one.parts
    pull(uri, tmp_path / "y.zarr")
    assert tree_bytes(tmp_path / "y.zarr") == tree_bytes(one.path)


def test_two_versions_of_a_part_never_mix(rivals, uri, fail, tmp_path):
    one, two = rivals
    fail("upload", 4)
    with pytest.raises(KeyboardInterrupt):
        push(one.path, uri)
    with pytest.raises(StoreError, match="has not finished"):
        push(two.path, uri)
    assert [item for item in gc(uri) if "given up" in item.why] == []  # it was touched a moment ago
    assert listing(uri)["unfinished"] == one.parts
    assert gc(uri, delete=True, hours=-1)
    assert push(two.path, uri).parts == one.parts
    pull(uri, tmp_path / "y.zarr")
    assert tree_bytes(tmp_path / "y.zarr") == tree_bytes(two.path)


def test_a_slow_push_that_was_taken_for_given_up_does_not_seal_half_a_part(small, uri, monkeypatch, tmp_path):
    kind = FolderRemote if uri.startswith("file") else ObjectRemote
    real, cleaned = kind.upload, []

    def upload(self, files, sent):
        real(self, files, sent)
        if any(name.endswith("zarr.json") for name in files) and not cleaned:
            cleaned.append(gc(uri, delete=True, hours=-1))

    monkeypatch.setattr(threads_module, "N_THREADS", 1)
    monkeypatch.setattr(kind, "upload", upload)
    with pytest.raises(OutputError, match="somebody removed what was pushed"):
        push(small.path, uri)
    assert cleaned and listing(uri)["parts"] == []
    push(small.path, uri)
    pull(uri, tmp_path / "y.zarr")
    assert tree_bytes(tmp_path / "y.zarr") == tree_bytes(small.path)


def test_the_same_part_pushed_twice_at_once_is_fine(small, uri, tmp_path):
    copy = shutil.copytree(small.path, tmp_path / "copy.zarr")
    errors = []

    def share(path):
        try:
            push(path, uri)
        except BaseException as error:  # noqa: BLE001  (the test looks at it)
            errors.append(error)

    threads = [threading.Thread(target=share, args=(path,)) for path in (small.path, copy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    pull(uri, tmp_path / "y.zarr")
    assert ActivationStore.open(tmp_path / "y.zarr").content_id == ActivationStore.open(small.path).content_id


def test_a_part_that_is_sealed_while_gc_lists_stays(small, uri, fail, monkeypatch, tmp_path):
    """Its push was interrupted, taken for given up, and went on before anything of it was removed."""
    fail("upload", 4)
    with pytest.raises(KeyboardInterrupt):
        push(small.path, uri)
    real, pushed = gc_module._remove, []

    def remove(*arguments):
        pushed.append(push(small.path, uri))
        real(*arguments)

    monkeypatch.setattr(gc_module, "_remove", remove)
    assert [item for item in gc(uri, delete=True, hours=-1) if "given up" in item.why]
    assert pushed[0].parts == small.parts
    pull(uri, tmp_path / "y.zarr")
    assert tree_bytes(tmp_path / "y.zarr") == tree_bytes(small.path)


@pytest.mark.parametrize("moment", ["before the claim is read", "before the files are listed"])
def test_a_part_that_a_teammate_seals_while_our_push_checks_it_is_fine(small, uri, tmp_path, monkeypatch, moment):
    copy = shutil.copytree(small.path, tmp_path / "copy.zarr")
    kind, begun = (FolderRemote if uri.startswith("file") else ObjectRemote), []
    real = {"read": kind.read, "files": kind.files}
    last = {"read": f"parts/{small.parts[0]}/.lock", "files": f"parts/{small.parts[0]}"}
    method, n_before = ("read", 0) if moment == "before the claim is read" else ("files", 1)

    def racing(self, name, *arguments):
        begun.append(1) if name == last[method] else None
        if name == last[method] and len(begun) == n_before + 1:
            assert push(copy, uri).parts == small.parts  # claims, sends, seals and gives the claim back
        return real[method](self, name, *arguments)

    monkeypatch.setattr(kind, method, racing)
    push(small.path, uri)
    assert len(begun) > n_before and listing(uri)["parts"][0]["n_samples"] == 2
    assert f"parts/{small.parts[0]}/.lock" not in names_at(uri)


def test_a_claim_given_back_while_the_files_are_listed_hides_none(small, tmp_path, monkeypatch):
    """The kernel names the claim, the teammate who sealed the part deletes it, and only then is its size asked."""
    copy, uri = shutil.copytree(small.path, tmp_path / "copy.zarr"), (tmp_path / "mount" / "x.zarr").as_uri()
    (tmp_path / "mount").mkdir()
    real, listed = os.scandir, []

    @contextlib.contextmanager
    def scandir(folder):
        with real(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)  # .lock comes first
        if str(folder) == str(tmp_path / "mount" / "x.zarr" / "parts" / small.parts[0]):
            listed.append(folder)
            if len(listed) == 2:  # everything is sent: does it all stand there?
                push(copy, uri)
        yield iter(found)

    monkeypatch.setattr("relope.store.share.remote_folder.os.scandir", scandir)
    push(small.path, uri)
    assert len(listed) > 2 and listing(uri)["parts"][0]["n_samples"] == 2


def test_a_staged_file_that_is_swept_before_it_is_locked_is_staged_again(tmp_path, monkeypatch):
    """A teammate's push looks for what killed ones left just between our file's making and its lock."""
    (tmp_path / "mount").mkdir()
    ours, theirs = (FolderRemote(as_location((tmp_path / "mount" / "x.zarr").as_uri())) for _ in range(2))
    real, swept = partial_module._ours, []

    def lock(descriptor):
        if not swept:
            swept.append(list(ours.root.glob(".tmp-*")))
            theirs.swap("theirs", b"2", None)
        return real(descriptor)

    monkeypatch.setattr(partial_module, "_ours", lock)
    assert ours.swap("ours", b"1", None)
    assert len(swept[0]) == 1 and not swept[0][0].exists()
    assert [file.name for file in ours.files("")] == ["ours", "theirs"]


@pytest.mark.parametrize("verb", ["swap", "upload"])
def test_a_folder_that_goes_with_its_last_file_is_made_again(tmp_path, monkeypatch, verb):
    """A teammate deletes the folder's only file, and with it the folder, while ours is staged."""
    (tmp_path / "mount").mkdir()
    remote = FolderRemote(as_location((tmp_path / "mount" / "x.zarr").as_uri()))
    (tmp_path / "new").write_bytes(b"2")
    remote.swap("parts/theirs", b"1", None)
    real = folder_module._finish

    def finish(file):
        real(file)
        remote.delete(["parts/theirs"])
        assert not (remote.root / "parts").exists()

    monkeypatch.setattr(folder_module, "_finish", finish)
    if verb == "swap":
        assert remote.swap("parts/ours", b"2", None)
    else:
        remote.upload({"parts/ours": tmp_path / "new"}, lambda n: None)
    assert remote.read("parts/ours").content == b"2"
