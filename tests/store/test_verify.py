import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_stores import Made, reseal

from relope.errors import NotFoundError, StoreError
from relope.provenance import digest, write_json
from relope.store import ActivationStore, Problem, part_id, verify
from relope.store.format.shard import ShardWriter, array_document, crc32c

FILES = [
    f"{name}/{file}"
    for name in ("hidden/2", "hidden/3", "last/2", "last/3", "answer", "tokens")
    for file in ("zarr.json", "c/0/0")
]
FILES += ["zarr.json", "hidden/zarr.json", "last/zarr.json", "samples.parquet", "COMMIT.json"]


def problems_of(made: Made, deep: bool = False) -> set[tuple[str, str]]:
    return {(problem.part, problem.file) for problem in verify(made.path, deep)}


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    write_json(path, value)


def test_a_sound_store_has_no_problems(kept: Made) -> None:
    assert verify(kept.path) == verify(str(kept.path), deep=True) == []


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_in_any_file(small: Made, name: str) -> None:
    path = small.folder(0) / name
    content = path.read_bytes()
    rng = np.random.default_rng(len(name))
    for place in {0, len(content) - 1, *rng.integers(0, len(content), 3).tolist()}:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        found = verify(small.path)
        assert found and all(problem.part == small.parts[0] or "catalog" in problem.file for problem in found), place
        assert name == "COMMIT.json" or (small.parts[0], name) in {(bad.part, bad.file) for bad in found}, place
    path.write_bytes(content)
    assert verify(small.path, deep=True) == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_truncated_file(small: Made, name: str) -> None:
    path = small.folder(0) / name
    content = path.read_bytes()
    for keep in (0, len(content) - 1):
        path.write_bytes(content[:keep])
        assert (small.parts[0], name) in problems_of(small, deep=True)
    path.unlink()
    assert (small.parts[0], name) in problems_of(small, deep=True)


def test_unexpected_files(made: Made) -> None:
    (made.folder(0) / "hidden/2/c/0/1").write_bytes(b"more")
    (made.path / "parts/notes.txt").write_text("mine")
    (made.path / "parts" / f".tmp-{'0' * 32}-9").mkdir()
    assert problems_of(made) == {(made.parts[0], "hidden/2/c/0/1"), ("", "parts/notes.txt")}


def test_what_is_said(made: Made) -> None:
    shard = made.folder(1) / "tokens/c/0/0"
    size = shard.stat().st_size
    os.truncate(shard, size - 3)
    expected = Problem(made.parts[1], "tokens/c/0/0", f"has {size - 3} bytes, COMMIT.json says {size}")
    assert verify(made.path, deep=True) == [expected]


def test_links_are_never_followed(made: Made, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (made.folder(0) / "tokens/c/0/0").rename(secret)
    (made.folder(0) / "tokens/c/0/0").symlink_to(secret)
    folder = tmp_path / "hidden"
    (made.folder(1) / "hidden").rename(folder)
    (made.folder(1) / "hidden").symlink_to(folder)
    (made.path / "parts" / ("e" * 32)).symlink_to(made.folder(2))
    found = problems_of(made, deep=True)
    assert {(made.parts[0], "tokens/c/0/0"), (made.parts[1], "hidden"), ("", f"parts/{'e' * 32}")} <= found
    store = ActivationStore.open(made.path)
    for read in (lambda: store.tokens([0]), lambda: list(store.batches(2, [3], size=1))):
        with pytest.raises(StoreError, match="symbolic link"):
            read()


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "a/../../b", "./zarr.json", "a//b", "x\x00y"])
def test_names_in_commit_that_lead_outside(made: Made, name: str) -> None:
    edit(made.folder(0) / "COMMIT.json", lambda commit: commit["files"].update({name: {"bytes": 1, "sha256": "0"}}))
    assert (made.parts[0], name) in problems_of(made)


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc", "a" * 31, 7, None, {}])
def test_part_ids_in_a_catalog_that_lead_outside(made: Made, name: Any) -> None:
    edit(made.path / "catalog/1.json", lambda catalog: catalog["parts"].append(name))
    assert problems_of(made) == {("", "catalog/1.json")}
    with pytest.raises(StoreError, match="which is no part id"):
        ActivationStore.open(made.path)


def test_catalogs_that_do_not_agree(made: Made) -> None:
    catalog = json.loads((made.path / "catalog/1.json").read_text())
    wrong = {
        2: {**catalog, "parts": [*catalog["parts"], "f" * 32]},
        3: {**catalog, "parts": catalog["parts"][:2]},
        4: {**catalog, "parts": catalog["parts"] * 2},
        5: {"parts": catalog["parts"]},
        6: {**catalog, "parts": "abc"},
        7: [],
    }
    for number, value in wrong.items():
        write_json(made.path / f"catalog/{number}.json", value)
    assert problems_of(made) == {
        ("f" * 32, "catalog/2.json"),
        *(("", f"catalog/{number}.json") for number in range(3, 8)),
    }
    for number, why in {
        7: "parts and content_id",
        6: "must be a list",
        4: "twice",
        2: f"part {'f' * 32} of catalog/2",
    }.items():
        for later in range(number + 1, 8):
            (made.path / f"catalog/{later}.json").unlink(missing_ok=True)
        with pytest.raises(StoreError, match=why):
            ActivationStore.open(made.path)


def test_a_part_under_the_name_of_another(made: Made) -> None:
    other = made.path / "parts" / ("0" * 32)
    made.folder(1).rename(other)
    assert (other.name, "COMMIT.json") in problems_of(made)
    reseal(other, part=other.name)
    assert (other.name, "samples.parquet") in problems_of(made)


@pytest.mark.parametrize(("key", "value"), [("n_samples", 9), ("n_tokens", 10**15), ("samples", "0" * 64)])
def test_commit_counts_that_the_samples_contradict(made: Made, key: str, value: Any) -> None:
    reseal(made.folder(0), **{key: value})
    assert problems_of(made) == {(made.parts[0], "COMMIT.json")}


def replace_samples(folder: Path, **columns: pl.Expr | pl.Series) -> None:
    frame = pl.read_parquet(folder / "samples.parquet").with_columns(**columns)
    frame.write_parquet(folder / "samples.parquet")
    reseal(folder, samples=digest(frame["id"].to_list()) if "id" in frame else "")


def test_an_id_twice_in_a_part(made: Made) -> None:
    replace_samples(made.folder(0), id=pl.Series(["a", "b", "a"]))
    renamed = made.path / "parts" / part_id(made.manifest.recipe_id, ["a", "b", "a"])
    made.folder(0).rename(renamed)
    reseal(renamed, part=renamed.name)
    (made.path / "catalog/1.json").unlink()
    found = verify(made.path)
    assert [(bad.part, bad.file) for bad in found] == [(renamed.name, "samples.parquet")]
    assert "has 1 sample ids more than once, e.g. 'a'" in found[0].what


@pytest.mark.parametrize(
    "columns",
    [
        {"n_tokens": pl.lit(1 << 62)},
        {"n_tokens": pl.lit(0, pl.Int64)},
        {"n_tokens": pl.lit(-5, pl.Int64)},
        {"n_tokens": pl.lit("3")},
        {"first_token": pl.lit(-1, pl.Int64)},
        {"first_token": pl.col("first_token") + 1},
        {"content": pl.lit(None, pl.String)},
    ],
)
def test_absurd_offsets(made: Made, columns: dict[str, pl.Expr]) -> None:
    replace_samples(made.folder(0), **columns)
    assert (made.parts[0], "samples.parquet") in problems_of(made, deep=True)
    with pytest.raises(StoreError, match=r"samples\.parquet in .* is damaged"):
        _ = ActivationStore.open(made.path).samples


@pytest.mark.parametrize("kind", ["shape", "samples too", "outer", "inner", "foreign codec", "foreign chunks"])
def test_absurd_shapes_are_refused_before_anything_is_allocated(build: Callable[..., Made], kind: str) -> None:
    made = build(parts=["c"])
    huge, folder = 1 << 39, made.folder()
    if kind not in ("shape", "inner", "outer"):
        replace_samples(folder, n_tokens=pl.lit(huge))
    spec = ActivationStore.open(made.path)._specs["hidden/2"]
    document = array_document(spec, huge, 256, huge // 256)
    if kind == "inner":
        document = array_document(spec, 1, huge, 1)
    elif kind == "outer":
        document = array_document(spec, 1, 1, huge)
    elif kind == "foreign codec":
        document["codecs"][0]["configuration"]["codecs"].append({"name": "zstd", "configuration": {"level": 1}})
    elif kind == "foreign chunks":
        document["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    write_json(folder / "hidden/2/zarr.json", document)
    reseal(folder)
    assert (made.parts[0], "hidden/2") in problems_of(made, deep=True)
    with pytest.raises(StoreError, match=r"has shape|bytes, must be|claims"):
        ActivationStore.open(made.path).array(0, "hidden/2")


def test_an_index_that_points_outside_its_file(build: Callable[..., Made]) -> None:
    made = build(parts=["c"])
    shard = made.folder() / "hidden/2/c/0/0"
    for offset, length in ((2**63, 16), (1, 16), (2**64 - 1, 2**64 - 1), (0, 2**60)):
        index = np.array([offset, length], "<u8").tobytes()
        shard.write_bytes(shard.read_bytes()[:16] + index + crc32c(index))
        reseal(made.folder())
        assert problems_of(made) == {(made.parts[0], "hidden/2")}


def test_rows_changed_together_with_every_checksum(build: Callable[..., Made]) -> None:
    made = build(parts=["ac"])
    for name, culprit in {"tokens": "samples.parquet", "last/2": "last/2"}.items():
        spec = ActivationStore.open(made.path)._specs[name]
        folder = made.folder() / name
        rows = np.zeros((4 if name == "tokens" else 2, spec.columns), spec.stored)
        original = {file: (folder / file).read_bytes() for file in ("zarr.json", "c/0/0")}
        for file in ("c/0/0", "zarr.json"):
            (folder / file).unlink()
        (folder / "c/0").rmdir(), (folder / "c").rmdir(), folder.rmdir()
        shard = ShardWriter(folder, spec)
        shard.append(rows)
        shard.seal()
        reseal(made.folder())
        assert verify(made.path) == []
        assert problems_of(made, deep=True) == {(made.parts[0], culprit)}
        for file, content in original.items():
            (folder / file).write_bytes(content)
        reseal(made.folder())


def test_the_root(made: Made, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify(tmp_path / "gone.zarr")
    content = (made.path / "zarr.json").read_bytes()
    (made.path / "zarr.json").write_bytes(content[:-20])
    assert problems_of(made) == {("", "zarr.json")}
    (made.path / "zarr.json").unlink()
    assert problems_of(made) == {("", "zarr.json")}
    (made.path / "zarr.json").write_bytes(content)
    (made.path / "parts").rename(tmp_path / "parts")
    (made.path / "parts").symlink_to(tmp_path / "parts")
    assert ("", "parts") in problems_of(made)
