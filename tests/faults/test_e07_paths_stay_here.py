"""E7: what is shared holds names, not paths of the user's machine; those are kept beside the local store."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import transformers
from made_stores import furnish, make_manifest, make_store
from own_data import lines
from peft import LoraConfig, get_peft_model

from relope import steps
from relope.extract.model.card import locate, open_card
from relope.locations import is_path, names_only
from relope.spec import build
from relope.steps.reopen import recorded_choice, recorded_dataset
from relope.store import convert, open_store, read_manifest, verify, write_block
from relope.store.share.pull import merge, pull
from relope.store.share.push import push

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def text_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A store of a user's own questions, which lie below a folder with a telling name."""
    rows = [{"id": f"q{n}", "split": "test", "question": f"How much is {n}+1?", "answer": str(n + 1)} for n in range(4)]
    data = tmp_path / "home-of-ada" / "mine.jsonl"
    data.parent.mkdir()
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"model": "tiny-vl", "dataset": str(data), "split": "test", "out": str(tmp_path / "x.zarr"), "device": "cpu"}
    steps.run(build("extract", spec))
    return tmp_path / "x.zarr"


def test_e7_a_pushed_store_holds_names(own: Path, tmp_path: Path) -> None:
    assert recorded_dataset(open_store(own)).name == "mine" and verify(own) == []
    assert b"home-of-ada" not in (own / "zarr.json").read_bytes() and b"home-of-ada" in (own / "here.json").read_bytes()
    push(own, (tmp_path / "team.zarr").as_uri())
    assert b"home-of-ada" not in text_of(tmp_path / "team.zarr") and not (tmp_path / "team.zarr/here.json").exists()
    pull((tmp_path / "team.zarr").as_uri(), tmp_path / "pulled.zarr")
    assert b"home-of-ada" not in text_of(tmp_path / "pulled.zarr")
    assert read_manifest(tmp_path / "pulled.zarr").recorded["dataset_source"] == "mine.jsonl"
    with pytest.raises(LookupError, match="mine"):
        recorded_dataset(open_store(tmp_path / "pulled.zarr"))


def test_e7_copies_on_this_machine_find_their_data(own: Path, tmp_path: Path) -> None:
    convert(own, tmp_path / "new.zarr", codec="zstd")
    shutil.copytree(own, tmp_path / "copy.zarr")
    merge([own, tmp_path / "copy.zarr"], tmp_path / "merged.zarr")
    for name in ("new.zarr", "copy.zarr", "merged.zarr"):
        assert recorded_dataset(open_store(tmp_path / name)).name == "mine", name
        assert verify(tmp_path / name) == [], name


def test_e7_an_older_store_is_pushed_without_its_paths(tmp_path: Path) -> None:
    paths = {"model": "tiny", "dataset_source": "/home/lovelace/mine.jsonl", "source": "C:\\lovelace\\ckpt"}
    manifest = dataclasses.replace(make_manifest(recorded=paths), format_version=1)
    made = make_store(tmp_path / "x.zarr", manifest)
    assert b"/home/lovelace" in (made.path / "zarr.json").read_bytes(), "as an older relope wrote it"
    push(furnish(made).path, (tmp_path / "team.zarr").as_uri())
    assert b"lovelace" not in text_of(tmp_path / "team.zarr")


HOME = b"home-of-ada"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """Everything that is made from an adapter, its base and questions in folders with a telling name."""
    folder = tmp_path_factory.mktemp("adapted")
    home = folder / "home-of-ada"
    shutil.copytree(locate(open_card("tiny-vl"))[0], home / "base")
    factory = transformers.AutoModelForMultimodalLM
    adapter = get_peft_model(factory.from_pretrained(home / "base"), LoraConfig(r=2, target_modules=["q_proj"]))
    adapter.save_pretrained(home / "adapter")
    rows = [
        {"id": f"q{n}", "split": ("train", "validation", "test")[n % 3], "question": f"How much is {n}+1?"}
        for n in range(90)
    ]
    lines(home / "mine.jsonl", [{**row, "correct": n % 4 > 0} for n, row in enumerate(rows)])
    store = str(folder / "x.zarr")
    asked = {"model": str(home / "adapter"), "dataset": str(home / "mine.jsonl"), "split": "train,validation,test"}
    run("extract", **asked, max_new_tokens=1, device="cpu", out=store)
    router, scores = str(folder / "routers" / "relope"), folder / "scores"
    run("fit", method="relope", store=store, set={"epochs": 1}, device="cpu", out=router)
    run("predict", router=router, store=store, device="cpu", out=str(scores / "relope.parquet"))
    run("calibrate", router=router, store=store, budget=0.4, confidence=0.6, device="cpu", out=str(folder / "bundle"))
    run("evaluate", store=store, scores=str(scores), bootstrap=100, out=str(folder / "report"))
    run("export", folder=router, out=str(folder / "exported"))
    run("store push", store=store, uri=(folder / "team.zarr").as_uri())
    return folder


def run(step, **values):
    return steps.run(build(step, values))


@pytest.mark.parametrize("made", ["team.zarr", "routers", "scores", "bundle", "report", "exported"])
def test_e7_nothing_that_is_passed_on_tells_where_a_model_lay(adapted, made):
    assert HOME in (adapted / "x.zarr" / "here.json").read_bytes()
    assert len(text_of(adapted / made)) > 500
    telling = [path.name for path in (adapted / made).rglob("*") if path.is_file() and HOME in path.read_bytes()]
    assert telling == []


def test_e7_the_store_still_finds_its_adapter_and_base(adapted):
    recorded = open_store(adapted / "x.zarr").manifest.recorded
    home = adapted / "home-of-ada"
    assert (recorded["source"], recorded["base"]["source"]) == (str(home / "adapter"), str(home / "base"))
    assert recorded["model"] == "adapter" and recorded_choice(open_store(adapted / "x.zarr"), "cpu").open()
    pulled = read_manifest(adapted / "team.zarr").recorded
    assert (pulled["source"], pulled["base"]["source"]) == ("adapter", "base")


def test_e7_a_block_of_an_older_relope_is_shared_without_its_paths(tmp_path):
    made = furnish(make_store(tmp_path / "x.zarr"))
    config = {"_name_or_path": "/home-of-ada/ckpt", "width": 6, "text_config": {"_name_or_path": "/home-of-ada/t"}}
    shutil.rmtree(made.path / "block_3")
    weights = {"block.safetensors": b"w" * 64, "replay.json": b"{}"}
    write_block(made.path, 3, {"config.json": json.dumps(config).encode(), **weights})
    done = push(made.path, (tmp_path / "team.zarr").as_uri())
    assert HOME not in text_of(tmp_path / "team.zarr") and not done.left_out
    pull((tmp_path / "team.zarr").as_uri(), tmp_path / "pulled.zarr")
    assert json.loads((tmp_path / "pulled.zarr/block_3/config.json").read_text()) == {"width": 6, "text_config": {}}
    assert verify(tmp_path / "pulled.zarr") == []


def test_e7_a_block_without_digests_is_said_to_stay(tmp_path):
    made = furnish(make_store(tmp_path / "x.zarr"))
    (made.path / "block_3" / "COMMIT.json").unlink()
    told = run("store push", store=str(made.path), uri=(tmp_path / "team.zarr").as_uri())
    assert told.facts["left_out"] == ["block_3"] and "not sent: block_3, which an older relope wrote" in told.text
    assert not (tmp_path / "team.zarr" / "block_3").exists()


def test_e7_what_is_a_path() -> None:
    recorded = {"a": "/x/y/ckpt", "b": "../z.jsonl", "c": "C:\\d\\e.csv", "d": "owner/model", "e": "s3://b/k", "f": 3}
    names = {"a": "ckpt", "b": "z.jsonl", "c": "e.csv", "d": "owner/model", "e": "s3://b/k", "f": 3}
    deep = {"base": {"source": "/x/y", "revision": ""}, "prompt_template": "/ {question}", "files": ["/x/z", 1]}
    assert names_only(deep) == {**deep, "base": {"source": "y", "revision": ""}, "files": ["z", 1]}
    assert names_only(recorded) == names and not any(is_path(value) for value in names.values())
