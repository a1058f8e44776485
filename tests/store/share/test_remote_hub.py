"""The Hugging Face Hub as far as it can be had without a network: a fake that keeps commits as the Hub does."""

import importlib
import inspect
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder
from made_stores import tree_bytes

from relope.errors import NotFoundError, OutputError
from relope.locations import parse_uri
from relope.store.share import pull, push, remote_hub
from relope.store.share.folders import Whole, push_folder
from relope.store.share.listing import listing
from relope.store.share.remote_hub import HubRemote

http = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
"""The HTTP library below huggingface_hub: it has used several."""


def answer(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = http.Request("POST", "https://hub.invalid")
    return kind("said the hub", response=http.Response(status, request=request))


@dataclass
class Hub:
    """One repository, of data or of a model, and one bucket, both called ``team/states``."""

    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b""}])
    bucket: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    before_commit: Any = None

    def _sha(self, number: int) -> str:
        return f"{number:040x}"

    def _at(self, revision: str | None) -> dict[str, bytes]:
        return self.commits[-1 if revision is None else int(revision, 16)]

    def _known(self, repo_id: str) -> None:
        if repo_id != "team/states":
            raise answer(RepositoryNotFoundError, 404)

    def repo_info(self, repo_id, *, repo_type):
        self._known(repo_id)
        assert repo_type in ("dataset", "model")
        return type("Info", (), {"sha": self._sha(len(self.commits) - 1)})

    def list_repo_tree(self, repo_id, path_in_repo=None, *, recursive, repo_type, revision=None):
        self._known(repo_id)
        yield from self._tree(self._at(revision), path_in_repo, recursive, strict=True)

    def list_bucket_tree(self, bucket_id, prefix=None, *, recursive):
        yield from self._tree(self.bucket, prefix, recursive, strict=False)

    def _tree(self, files, path, recursive, strict):
        prefix, folders = f"{path}/" if path else "", set()
        inside = [name for name in sorted(files) if name.startswith(prefix)]
        if path and strict and not inside:
            raise EntryNotFoundError("no such folder")
        for name in inside:
            first, slash, _ = name.removeprefix(prefix).partition("/")
            if recursive or not slash:
                yield self._file(name, files[name])
            elif first not in folders:
                folders.add(first)
                yield RepoFolder(path=prefix + first, oid="0")

    def _file(self, name, content):
        return RepoFile(path=name, size=len(content), oid=str(hash(content)))

    def get_paths_info(self, repo_id, paths, *, repo_type, revision=None):
        return [self._file(name, self._at(revision)[name]) for name in paths if name in self._at(revision)]

    def get_bucket_paths_info(self, bucket_id, paths):
        return [self._file(name, self.bucket[name]) for name in paths if name in self.bucket]

    def create_commit(self, repo_id, operations, *, commit_message, repo_type, parent_commit=None):
        self._known(repo_id)
        if self.before_commit:
            self.before_commit()
        if parent_commit is not None and int(parent_commit, 16) != len(self.commits) - 1:
            raise answer(HfHubHTTPError, 412)
        files = dict(self.commits[-1])
        for operation in operations:
            if type(operation).__name__ == "CommitOperationDelete":
                del files[operation.path_in_repo]
            else:
                with operation.as_file() as content:
                    files[operation.path_in_repo] = content.read()
        self.commits.append(files)
        self.messages.append(commit_message)

    def batch_bucket_files(self, bucket_id, *, add=(), delete=()):
        for source, name in add:
            self.bucket[name] = source if isinstance(source, bytes) else Path(source).read_bytes()
        for name in delete:
            self.bucket.pop(name, None)

    def open(self, path, mode, *, revision, cache_type):
        assert mode == "rb" and cache_type == "none"
        kind, _, name = path.partition("team/states/")
        assert kind in ("datasets/", "buckets/", "")  # models have none
        return io.BytesIO((self.bucket if kind == "buckets/" else self._at(revision))[name])


@pytest.fixture
def hub(monkeypatch):
    fake = Hub()
    monkeypatch.setattr(remote_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(remote_hub, "HfFileSystem", lambda use_listings_cache: fake)
    return fake


@pytest.fixture(params=["datasets", "models", "buckets"])
def uri(request, hub):
    return f"hf://{request.param}/team/states/x.zarr"


def test_a_store_comes_back_as_it_was(made, uri, tmp_path):
    sent = push.push(made.path, uri)
    assert sent.parts == made.parts and sent.n_samples == 7
    assert push.push(made.path, uri).n_bytes == 0
    pull.pull(uri, tmp_path / "y.zarr")
    assert tree_bytes(tmp_path / "y.zarr") == tree_bytes(made.path)
    assert listing(uri.removesuffix("/x.zarr"))["stores"][0]["n_samples"] == 7


def test_a_part_is_one_commit(made, hub):
    push.push(made.path, "hf://datasets/team/states/x.zarr")
    commit = next(files for files in hub.commits if f"x.zarr/parts/{made.parts[0]}/zarr.json" in files)
    assert f"x.zarr/parts/{made.parts[0]}/COMMIT.json" in commit
    assert not any(name.endswith(".lock") for files in hub.commits for name in files)
    assert sum("add" in message for message in hub.messages) == len(made.parts)


def test_a_commit_of_somebody_else_in_between_is_noticed(made, hub):
    remote = HubRemote(parse_uri("hf://datasets/team/states/x.zarr"))

    def race():
        hub.before_commit = None
        assert remote.swap("catalog/1.json", b"theirs", None)

    hub.before_commit = race
    assert not remote.swap("catalog/1.json", b"mine", None)
    found = remote.read("catalog/1.json")
    assert found.content == b"theirs"

    def other():
        hub.before_commit = None
        assert remote.swap("plan.json", b"{}", None)

    hub.before_commit = other  # another file: the head moved, but ours is as we saw it
    assert remote.swap("catalog/1.json", b"new", found.tag)
    assert not remote.swap("catalog/1.json", b"newer", found.tag)


def test_of_two_pushes_of_one_part_at_once_the_first_counts(rivals, hub, monkeypatch, tmp_path):
    """Two machines have computed it, with other last bits; one is sealed just before the other's commit."""
    (one, two), uri, raced = rivals, "hf://datasets/team/states/x.zarr", []
    real = hub.create_commit

    def create_commit(repo_id, operations, **options):
        if not raced and any(operation.path_in_repo.endswith("COMMIT.json") for operation in operations):
            raced.append(1)
            raced.append(push.push(one.path, uri))
        return real(repo_id, operations, **options)

    monkeypatch.setattr(hub, "create_commit", create_commit)
    second = push.push(two.path, uri)
    assert raced[1].parts == one.parts and second.parts == [] and second.differing == one.parts
    pull.pull(uri, tmp_path / "y.zarr")
    assert tree_bytes(tmp_path / "y.zarr") == tree_bytes(one.path)


def test_of_two_first_pushes_of_a_folder_the_first_counts(hub, tmp_path):
    thing, remote = Whole("thing", "thing.json", 1 << 16), HubRemote(parse_uri("hf://models/team/states/thing"))

    def share(letter, replace=False):
        folder = tmp_path / letter
        folder.mkdir(exist_ok=True)
        files = {name: folder / name for name in ("a.bin", f"of-{letter}.bin")}
        for path in (*files.values(), folder / "thing.json"):
            path.write_text(letter)
        return push_folder(remote, thing, folder, files, replace, lambda n: None)

    def race():
        hub.before_commit = None
        assert share("y")

    hub.before_commit = race
    with pytest.raises(OutputError, match=r"others wrote to .* meanwhile"):
        share("x")
    assert set(hub.commits[-1].values()) == {b"", b"y"}
    assert share("x", replace=True)
    assert {name for name in hub.commits[-1] if "thing" in name} == {
        f"thing/{name}" for name in ("a.bin", "of-x.bin", "thing.json")
    }


def test_a_bucket_is_read_again_after_a_write(hub):
    remote = HubRemote(parse_uri("hf://buckets/team/states/x.zarr"))
    assert remote.swap("a.json", b"1", None) and not remote.swap("a.json", b"2", None)
    found = remote.read("a.json")
    assert remote.swap("a.json", b"3", found.tag) and not remote.swap("a.json", b"4", found.tag)


def test_errors_in_two_lines(hub, monkeypatch):
    with pytest.raises(NotFoundError, match="there is no datasets/team/other") as said:
        listing("hf://datasets/team/other/x.zarr")
    assert "hf auth login" in said.value.hint and len(said.value.lines.splitlines()) == 2
    remote = HubRemote(parse_uri("hf://datasets/team/states/x.zarr"))
    for error, says in (
        (answer(HfHubHTTPError, 403), "refuses these credentials"),
        (answer(HfHubHTTPError, 500), "answers 500"),
        (http.ConnectError("no route"), "cannot be reached: no route"),
    ):

        def fail(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr(hub, "repo_info", fail, raising=False)
        with pytest.raises(OutputError, match=says):
            remote.read("zarr.json")


def test_the_fake_has_the_signatures_of_the_hub():
    """What we call is what huggingface_hub has."""
    called = "repo_info list_repo_tree list_bucket_tree get_paths_info get_bucket_paths_info create_commit"
    for name in (*called.split(), "batch_bucket_files"):
        real = set(inspect.signature(getattr(HfApi, name)).parameters)
        assert set(inspect.signature(getattr(Hub, name)).parameters) <= real, name
