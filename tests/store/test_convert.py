import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import polars as pl
import pytest
import tensorstore
import zarr
from made_stores import PARTS, Made, make_manifest, tree_bytes
from typer.testing import CliRunner

from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.seals import write_sealed_frame
from relope.store import BLOCK_FILES, ActivationStore, convert, info, verify, write_block, write_object


def same_values(one: Path, other: Path, layers: tuple[int, ...] = (2, 3)) -> None:
    first, second = ActivationStore.open(one), ActivationStore.open(other)
    assert first.samples.drop("part", "content").equals(second.samples.drop("part", "content"))
    for layer in layers:
        np.testing.assert_array_equal(first.last(layer), second.last(layer))
    np.testing.assert_array_equal(first.answer(), second.answer())
    np.testing.assert_array_equal(first.token_batch()[0], second.token_batch()[0])


def test_there_and_back_gives_the_same_bytes(kept: Made, tmp_path: Path) -> None:
    packed = convert(kept.path, tmp_path / "zstd.zarr", codec="zstd")
    plain = convert(tmp_path / "zstd.zarr", tmp_path / "none.zarr", codec="none")
    assert packed == plain == ActivationStore.open(kept.path)._catalog
    assert tree_bytes(tmp_path / "none.zarr") == tree_bytes(kept.path)
    assert info(ActivationStore.open(tmp_path / "zstd.zarr"))["codecs"] == {"zstd": 3}
    assert verify(tmp_path / "zstd.zarr", deep=True) == []
    same_values(kept.path, tmp_path / "zstd.zarr")


def test_the_codec_stays_unless_another_is_asked_for(build: Callable[..., Made], tmp_path: Path) -> None:
    made = build(codec="zstd")
    convert(made.path, tmp_path / "new.zarr")
    assert tree_bytes(tmp_path / "new.zarr") == tree_bytes(made.path)


def test_an_interrupted_conversion_goes_on(kept: Made, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 7
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(kept.path, tmp_path / "new.zarr", codec="zstd", progress=stop)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "new.zarr/parts").glob("*/COMMIT.json")}
    assert len(there) == 2
    convert(kept.path, tmp_path / "new.zarr", codec="zstd")
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert ActivationStore.open(tmp_path / "new.zarr").content_id == ActivationStore.open(kept.path).content_id


def test_a_subset_says_what_it_is_a_subset_of(build: Callable[..., Made], tmp_path: Path) -> None:
    identity = {"model_files": "ab", "layers": [2, 3], "tokens": "all"}
    made = build(manifest=make_manifest(identity=identity))
    convert(made.path, tmp_path / "lean.zarr", tokens="lean")
    lean, source = ActivationStore.open(tmp_path / "lean.zarr"), ActivationStore.open(made.path)
    of = {"recipe_id": source.recipe_id, "content_id": source.content_id}
    assert lean.manifest.recorded["subset_of"] == of and lean.content_id != source.content_id
    assert (lean.manifest.tokens, lean.manifest.token_layers, lean.layers) == ("lean", (2,), (2, 3))
    # The same as if it had been written lean: recipe, parts, content and bytes.
    direct = make_manifest(identity={**identity, "tokens": "lean"}, tokens="lean", token_layers=(2,))
    written = build("direct.zarr", manifest=direct)
    assert tree_bytes(written.path / "parts") == tree_bytes(tmp_path / "lean.zarr/parts")
    same_values(made.path, tmp_path / "lean.zarr")
    convert(made.path, tmp_path / "one.zarr", layers=[3])
    one = ActivationStore.open(tmp_path / "one.zarr")
    assert one.layers == one.manifest.token_layers == (3,) and one.manifest.identity["layers"] == [3]
    same_values(made.path, tmp_path / "one.zarr", (3,))
    assert verify(tmp_path / "lean.zarr", deep=True) == verify(tmp_path / "one.zarr", deep=True) == []


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_bfloat16_by_its_name(kept: Made, tmp_path: Path, codec: str) -> None:
    path = tmp_path / "named.zarr"
    convert(kept.path, path, codec=codec, bfloat16=True)
    array = path / "parts" / kept.parts[0] / "hidden/2"
    assert json.loads((array / "zarr.json").read_text())["data_type"] == "bfloat16"
    driver = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    found = tensorstore.open(driver, read=True).result().read().result()
    expected = np.concatenate([kept.captures[name].hidden[2] for name in PARTS[0]])
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.view(np.uint16), expected)
    same_values(kept.path, path)
    assert ActivationStore.open(path).content_id == ActivationStore.open(kept.path).content_id
    assert verify(path, deep=True) == []


def test_what_goes_along(made: Made, tmp_path: Path) -> None:
    (made.path / "grades").mkdir()
    write_sealed_frame(made.path / "grades/exact@1.parquet", pl.DataFrame({"id": ["a"], "correct": [True]}))
    write_object(made.path, made.path / "plan.json", {"units": []})
    for layer in (2, 3):
        write_block(made.path, layer, dict.fromkeys(BLOCK_FILES, b"{}"))
    convert(made.path, tmp_path / "new.zarr", codec="zstd")
    for name in ("grades/exact@1.parquet", "plan.json", "block_3/replay.json", "block_3/COMMIT.json"):
        assert (tmp_path / "new.zarr" / name).read_bytes() == (made.path / name).read_bytes()
    assert not (tmp_path / "new.zarr/block_2").exists(), "without layer 1 it cannot be replayed"


def test_damage_is_not_carried_on(made: Made, tmp_path: Path) -> None:
    shard = made.folder(1) / "hidden/2/c/0/0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match="CRC of chunk 0 fails"):
        convert(made.path, tmp_path / "new.zarr", codec="zstd")
    assert [path.name for path in (tmp_path / "new.zarr/parts").iterdir() if path.is_dir()] == [made.parts[0]]


def test_mistakes(kept: Made, kept_float32: Made, build: Callable[..., Made], tmp_path: Path) -> None:
    lean = build(manifest=make_manifest(tokens="lean", token_layers=(2,)))
    cases: list[tuple[Path, dict[str, Any], type[Exception], str]] = [
        (kept.path, {"layers": [9]}, NotFoundError, r"layer 9 is not in .* \(has 2, 3\)"),
        (kept.path, {"codec": "gzip"}, InvalidInputError, "codec 'gzip' is not allowed"),
        (kept_float32.path, {"bfloat16": True}, InvalidInputError, "holds float32"),
        (lean.path, {"layers": [3]}, NotFoundError, "only last tokens of layer 3"),
        (lean.path, {"tokens": "all"}, InvalidInputError, "is lean"),
    ]
    for source, options, error, why in cases:
        with pytest.raises(error, match=why):
            convert(source, tmp_path / "new.zarr", **options)
    assert not (tmp_path / "new.zarr").exists()
    with pytest.raises(InvalidInputError, match="is the store that is read") as caught:
        convert(lean.path, lean.path / "../x.zarr")
    assert caught.value.hint == "choose another --out"


def test_the_command(tmp_path: Path) -> None:
    def run(*arguments: object) -> Any:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    extract = ("extract", "--model", "tiny-vl", "--dataset", "tiny", "--limit", 4, "--json", "--out")
    run(*extract, tmp_path / "all.zarr")
    run(*extract, tmp_path / "lean.zarr", "--tokens", "lean", "--codec", "zstd")
    same = run("store", "convert", tmp_path / "all.zarr", "--codec", "zstd", "--json", "--out", tmp_path / "z.zarr")
    assert same["same_content"] and same["codecs"] == {"zstd": 1}
    lean = run("store", "convert", tmp_path / "all.zarr", "--tokens", "lean", "--json", "--out", tmp_path / "l.zarr")
    direct = run("store", "info", tmp_path / "lean.zarr", "--json")
    assert not lean["same_content"] and direct["codecs"] == {"zstd": 1}
    assert (lean["recipe_id"], lean["content_id"]) == (direct["recipe_id"], direct["content_id"])
    bad = ("store", "convert", str(tmp_path / "all.zarr"), "--out", str(tmp_path / "x"), "--layers", "a,b")
    assert CliRunner().invoke(app, bad).exit_code == 2
    assert (zarr.open_array(str(next((tmp_path / "z.zarr/parts").glob("*/hidden/3"))), mode="r")[:] != 0).any()
