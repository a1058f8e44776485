"""A team at work: fit and evaluate on a shared store in place, train on a subset, reuse a teammate's parts."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from relope.cli import app
from relope.steps.outputs import outputs_beside
from relope.store import ActivationStore, open_store, verify
from relope.store.share.push import push
from relope.store.share.remote_objects import ObjectRemote


def relope(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ok(*arguments):
    result = relope(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def local(store_path, tmp_path, monkeypatch):
    """The small store as a folder of our own, in a working folder of our own."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(store_path, tmp_path / "tiny.zarr"))


@pytest.fixture
def read(monkeypatch):
    """Every range that is read of a bucket: (name, bytes)."""
    ranges, real = [], ObjectRemote.read_range

    def read_range(self, name, start, stop):
        ranges.append((name, stop - start))
        return real(self, name, start, stop)

    monkeypatch.setattr(ObjectRemote, "read_range", read_range)
    return ranges


def test_fit_and_evaluate_in_place_read_only_last_tokens(local, s3, read, tmp_path):
    uri = f"{s3}/tiny.zarr"
    ok("store", "push", local, uri)
    ok("fit", "probe", "--store", uri, "--set", "epochs=3")
    ok("fit", "probe", "--store", local, "--set", "epochs=3")
    fitted = sum(size for _, size in read)
    last = sum(path.stat().st_size for path in local.glob("parts/*/last/4/c/0/0"))
    every = sum(path.stat().st_size for path in local.glob("parts/*/*/*/c/0/0"))
    assert 0 < fitted <= last < every / 10
    assert {name.split("/", 2)[2] for name, _ in read} == {"last/4/c/0/0"}
    beside = outputs_beside(uri)
    folders = (Path(f"{beside}.routers/probe"), Path(f"{local}.routers/probe"))
    found = [sorted(folder.glob("*.safetensors")) for folder in folders]
    assert found[0] and all(a.read_bytes() == b.read_bytes() for a, b in zip(*found, strict=True))

    ok("predict", "--router", f"{beside}.routers/probe", "--store", uri)
    ok("predict", "--router", "logprob", "--store", uri)
    ok("predict", "--router", f"{local}.routers/probe", "--store", local)
    ok("predict", "--router", "logprob", "--store", local)
    assert pl.read_parquet(f"{beside}.scores/probe.parquet").equals(pl.read_parquet(f"{local}.scores/probe.parquet"))
    read.clear()
    there = json.loads(ok("evaluate", "--store", uri, "--bootstrap", "100", "--json").stdout)
    here = json.loads(ok("evaluate", "--store", local, "--bootstrap", "100", "--json").stdout)
    assert [m["auc"] for m in there["methods"]] == [m["auc"] for m in here["methods"]]
    assert there["path"] == f"{beside}.report" and read == []
    asked = ("--dataset", "tiny", "--split", "test", "--limit", "80", "--tokens", "lean", "--device", "cpu")
    ok("extract", "--model", "tiny-vl-large", *asked, "--out", "tiny-large.zarr")
    ok("store", "push", "tiny-large.zarr", f"{s3}/large.zarr")
    large = ("--large-store", f"{s3}/large.zarr")
    hybrid = ok("evaluate", "--store", local, *large, "--bootstrap", "100", "--out", "hybrid", "--json")
    assert json.loads(hybrid.stdout)["methods"][0]["n"] == 80
    assert sorted(path.name for path in tmp_path.iterdir() if "tiny" not in path.name) == ["hybrid", "runs"]


def test_block_l_and_every_token_come_when_a_method_asks(local, s3, read):
    ok("store", "push", local, f"{s3}/tiny.zarr")
    asked = ("fit", "relope", "--set", "epochs=1", "--out", "r")
    ok(*asked, "--store", f"{s3}/tiny.zarr")
    names = {name.split("/", 2)[2] if name.startswith("parts/") else name for name, _ in read}
    assert {"hidden/3/c/0/0", "block_4/block.safetensors"} <= names and "hidden/4/c/0/0" not in names


def test_verdicts_travel_both_ways(local, s3, tmp_path):
    uri = f"{s3}/tiny.zarr"
    [grades] = local.glob("grades/*.parquet")
    verdicts = pl.read_parquet(grades)
    grades.unlink()
    ok("store", "push", local, uri)
    said = relope("fit", "probe", "--store", uri)
    assert said.exit_code == 2 and f"relope grade --store {uri}" in said.stderr
    assert f"→ {uri}/grades/" in ok("grade", "--store", uri).stdout
    ok("store", "pull", uri, "--out", "back.zarr")
    assert pl.read_parquet(Path("back.zarr/grades") / grades.name).sort("id").equals(verdicts.sort("id"))


def test_verdicts_on_a_teammates_samples_are_kept(local, s3, tmp_path):
    uri = f"{s3}/tiny.zarr"
    ok("store", "push", local, uri)
    ok("store", "pull", uri, "--split", "test", "--out", "a.zarr")
    assert set(pl.read_parquet(*Path("a.zarr/grades").glob("*"))["split"]) == {"test"}
    ok("store", "push", "a.zarr", f"{s3}/b.zarr")
    assert json.loads(ok("store", "push", local, f"{s3}/b.zarr", "--json").stdout)["besides"][0].startswith("grades/")
    ok("store", "pull", f"{s3}/b.zarr", "--out", "b.zarr")
    assert len(pl.read_parquet(*Path("b.zarr/grades").glob("*"))) == 240


def test_a_subset_trains(local, s3):
    ok("store", "push", local, f"{s3}/tiny.zarr")
    ok("store", "pull", f"{s3}/tiny.zarr", "--layers", "4", "--out", "four.zarr")
    ok("fit", "probe", "--store", "four.zarr", "--set", "epochs=2")
    ok("store", "pull", f"{s3}/tiny.zarr", "--layers", "3,4", "--split", "train", "--out", "train.zarr")
    ok("fit", "relope", "--store", "train.zarr", "--set", "epochs=1")
    assert json.loads(ok("store", "verify", "train.zarr", "--deep", "--json").stdout) == []
    said = relope("fit", "attention-probe", "--store", "four.zarr")
    assert said.exit_code == 2 and "layer 3 is not in four.zarr" in said.stderr


EXTRACT = ("extract", "--model", "tiny-vl", "--dataset", "tiny", "--device", "cpu")


@pytest.mark.parametrize("where", ["store", "folder"])
def test_extract_reuses_what_a_teammate_computed(local, team, where):
    push(local, f"{team}/tiny.zarr")
    reuse = f"{team}/tiny.zarr" if where == "store" else team
    run = (*EXTRACT, "--split", "train", "--limit", "170", "--out", "mine.zarr", "--reuse", reuse)
    facts = json.loads(ok(*run, "--json").stdout)
    assert (facts["reused"], facts["computed"], facts["samples"]) == (160, 10, 170)
    mine, theirs = ActivationStore.open("mine.zarr"), ActivationStore.open(local)
    assert len(mine) == 170 and set(mine.samples["split"]) == {"train"}
    ids = mine.samples["id"].to_list()
    known = theirs.samples.filter(pl.col("id").is_in(ids))
    rows = [ids.index(name) for name in known["id"]]
    np.testing.assert_array_equal(mine.last(4, rows), theirs.last(4, known["row"].to_list()))
    assert verify("mine.zarr", deep=True) == []
    again = json.loads(ok(*run, "--json").stdout)
    assert (again["reused"], again["computed"]) == (0, 0)
    assert "170 samples up to date" in ok(*run).stdout


def test_reuse_of_another_recipe_is_refused_before_anything_is_computed(local, team):
    push(local, f"{team}/tiny.zarr")
    run = (*EXTRACT, "--limit", "4", "--split", "test", "--layers", "2,3", "--out", "other.zarr", "--reuse")
    said = relope(*run, f"{team}/tiny.zarr")
    assert said.exit_code == 2 and "another recipe than this run: layers was [3,4], now [2,3]" in said.stderr.replace(
        ", 4", ",4"
    ).replace(", 3", ",3")
    said = relope(*run, team)
    assert said.exit_code == 2 and "has this run's recipe" in said.stderr
    assert not Path("other.zarr").exists()


MISTAKES = [
    (["store", "push", "{local}", "ftp://x/y"], "unknown scheme 'ftp'"),
    (["store", "push", "{local}", "s3:/bucket/x"], "write 's3://bucket/x'"),
    (["store", "push", "{local}", "{s3}x/x.zarr"], "there is no bucket"),
    (["store", "push", "{local}", "{local}"], "is the store itself"),
    (["store", "push", "{tmp}/nothing", "{s3}/x.zarr"], "nothing"),
    (["store", "push", "{local}", "file:///no/such/mount/x.zarr"], "is the share mounted"),
    (["store", "pull", "{s3}/x.zarr"], "there is no store at"),
    (["store", "pull", "{s3}/../x.zarr"], "which is not allowed"),
    (["store", "pull", "{s3}/x.zarr", "--layers", "deep"], "must be block numbers"),
    (["store", "pull", "hf://spaces/a/b"], "must be hf://datasets"),
    (["store", "ls", "{s3}"], "there is no store at"),
    (["store", "ls", "s3://"], "which is not allowed"),
    (["store", "merge", "{local}", "--out", "{tmp}/m"], "two or more stores"),
    (["store", "gc", "{tmp}/nothing"], "there is no store at"),
    (["store", "verify", "{s3}/x.zarr"], "is not on this machine"),
    (["store", "info", "{s3}/x.zarr"], "is not on this machine"),
    (["store", "convert", "{s3}/x.zarr", "--out", "{tmp}/c"], "is not on this machine"),
    (["fit", "probe", "--store", "{s3}/x.zarr"], "there is no store at"),
    (["fit", "probe", "--store", "s3:/bucket/x"], "one slash"),
    (["evaluate", "--store", "gopher://x"], "unknown scheme"),
    ([*EXTRACT, "--limit", "2", "--out", "{tmp}/o", "--reuse", "{s3}/x.zarr"], "there is no store at"),
]


@pytest.mark.parametrize(("command", "says"), MISTAKES, ids=[" ".join(command[:4]) for command, _ in MISTAKES])
def test_mistakes_get_one_or_two_lines_and_exit_code_2(command, says, local, s3, tmp_path):
    filled = [
        part.replace("{tmp}", str(tmp_path)).replace("{local}", str(local)).replace("{s3}", s3) for part in command
    ]
    result = relope(*filled)
    assert result.exit_code == 2, result.output
    message = result.stderr[result.stderr.index("error: ") :].strip()
    assert says in message and "Traceback" not in result.output and len(message.splitlines()) <= 2, message


def test_without_credentials(local, s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    result = relope("store", "push", local, f"{s3}/x.zarr")
    assert result.exit_code == 2 and "no credentials for s3://" in result.stderr
    assert "AWS_ACCESS_KEY_ID" in result.stderr and len(result.stderr.strip().splitlines()) <= 2


def test_a_profile_of_the_aws_tool_is_enough(local, s3, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "keys").write_text("[team]\naws_access_key_id = test\naws_secret_access_key = test\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    ok("store", "push", local, f"{s3}/x.zarr")
    assert open_store(f"{s3}/x.zarr").content_id == ActivationStore.open(local).content_id


def test_without_the_extra(local, s3, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = relope("store", "ls", f"{s3}/x.zarr")
    assert result.exit_code == 2 and "pip install 'relope[cloud]'" in result.stderr
    (local.parent / "mount").mkdir()
    ok("store", "push", local, local.parent / "mount" / "x.zarr")  # a shared mount needs none


def test_tables_and_notes_are_in_plain_words(local, s3):
    said = ok("store", "push", local, f"{s3}/tiny.zarr").stdout
    assert "2 parts sent (" in said and "240 samples in catalog 1" in said and "block_4/block.safetensors" in said
    assert "0 parts sent (0 B), 2 there already" in ok("store", "push", local, f"{s3}/tiny.zarr").stdout
    assert "240 samples" in ok("store", "ls", f"{s3}/tiny.zarr").stdout
    assert "tiny.zarr" in ok("store", "ls", s3).stdout
    assert "2 parts added (240 samples, " in ok("store", "pull", f"{s3}/tiny.zarr", "--out", "b.zarr").stdout
    assert "nothing to remove" in ok("store", "gc", "b.zarr").stdout
    assert "4 parts" not in ok("store", "merge", local, "b.zarr", "--out", "m.zarr").stdout
