"""`relope router push/pull`: a bundle comes back byte for byte, or not at all."""

import json

import pytest
from made_bundle import made_bundle
from made_bundle import written_bundle as made
from made_stores import tree_bytes

from relope import steps
from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.serve.bundle import write_bundle
from relope.spec import build


def step(name, *values, **fields):
    first = {"router push": ("router", "uri"), "router pull": ("uri",)}[name]
    return steps.run(build(name, {**dict(zip(first, map(str, values), strict=False)), **fields}))


def test_a_bundle_comes_back_as_it_was(team, tmp_path):
    mine, uri = made(tmp_path / "mine"), f"{team}/probe"
    sent = step("router push", mine, uri)
    assert not sent.reused and sent.facts["n_bytes"] > 10_000 and sent.location == uri
    assert step("router push", mine, uri).reused
    pulled = step("router pull", uri, out=tmp_path / "theirs")
    assert tree_bytes(pulled.path) == tree_bytes(mine) and "share escalated at most 50 %" in pulled.text
    with pytest.raises(InvalidInputError, match="is there already"):
        step("router pull", uri, out=tmp_path / "theirs")


def test_another_bundle_is_replaced_only_where_that_is_said(team, tmp_path):
    uri = f"{team}/probe"
    step("router push", made(tmp_path / "a"), uri)
    other = made(tmp_path / "b", threshold=0.4)
    (other / "more.json").write_text("{}")
    write_bundle(other, made_bundle(0.4))
    with pytest.raises(StoreError, match="holds another bundle") as error:
        step("router push", other, uri)
    assert "--replace" in error.value.hint
    step("router push", other, uri, replace=True)
    assert tree_bytes(step("router pull", uri, out=tmp_path / "back").path) == tree_bytes(other)
    step("router push", tmp_path / "a", uri, replace=True)
    assert tree_bytes(step("router pull", uri, out=tmp_path / "again").path) == tree_bytes(tmp_path / "a")


def test_a_push_that_was_stopped_goes_on(tmp_path):
    mine = made(tmp_path / "mine")
    (tmp_path / "mount" / "probe").mkdir(parents=True)
    (tmp_path / "mount" / "probe" / "router.json").write_text("half")
    uri = (tmp_path / "mount" / "probe").as_uri()
    with pytest.raises(NotFoundError, match="there is no bundle at"):
        step("router pull", uri, out=tmp_path / "x")
    step("router push", mine, uri)
    assert tree_bytes(step("router pull", uri, out=tmp_path / "x").path) == tree_bytes(mine)


def test_nothing_is_written_among_other_things(tmp_path):
    (tmp_path / "mount" / "photos").mkdir(parents=True)
    (tmp_path / "mount" / "photos" / "cat.jpg").write_text("x")
    with pytest.raises(StoreError, match=r"holds other things \(cat.jpg\), not a bundle"):
        step("router push", made(tmp_path / "mine"), (tmp_path / "mount" / "photos").as_uri())
    assert [path.name for path in (tmp_path / "mount" / "photos").iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize("name", ["router.json", "block_4/model.safetensors", "README.md", "bundle.json"])
def test_what_was_changed_there_is_not_kept(tmp_path, name):
    there = made(tmp_path / "mount")
    content = (there / name).read_bytes()
    (there / name).write_bytes(content[:-2] + b"!" + content[-1:])
    with pytest.raises(StoreError):
        step("router pull", there.as_uri(), out=tmp_path / "x")
    assert not (tmp_path / "x").exists() and {path.name for path in tmp_path.iterdir()} == {"mount"}


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a//b", ".ssh/x", "a\\b", "", "bundle.json"])
def test_a_manifest_leads_nowhere_else(tmp_path, name):
    there = made(tmp_path / "mount")
    value = json.loads((there / "bundle.json").read_text())
    value["files"][name] = "0" * 64
    (there / "bundle.json").write_text(json.dumps(value))
    with pytest.raises(StoreError, match="names a file"):
        step("router pull", there.as_uri(), out=tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"mount"}


def test_a_model_s_repository_takes_one_commit(tmp_path, monkeypatch):
    from relope.store.share import remote_hub
    from tests.store.share.test_remote_hub import Hub

    fake = Hub()
    fake.commits[0]["README.md"] = b"the Hub's own"
    monkeypatch.setattr(remote_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(remote_hub, "HfFileSystem", lambda use_listings_cache: fake)
    mine = made(tmp_path / "mine")
    step("router push", mine, "hf://models/team/states")
    assert len(fake.commits) == 2 and {"README.md", "bundle.json", "router.json"} < set(fake.commits[1])
    pulled = step("router pull", "hf://models/team/states", out=tmp_path / "theirs").path
    assert tree_bytes(pulled) == tree_bytes(mine)


def test_a_file_is_no_place_to_push_to(tmp_path):
    made(tmp_path / "b")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="file is a file, and what is shared is a folder"):
        steps.run(build("router push", {"router": tmp_path / "b", "uri": str(tmp_path / "file")}))
