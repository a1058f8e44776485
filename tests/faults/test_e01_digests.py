"""E1: every file of a store is under a digest; what is damaged is found, not read and not shared."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_stores import Made, flip, furnish, make_store

from relope import steps
from relope.errors import StoreError
from relope.provenance import write_json
from relope.spec import build
from relope.store import convert, open_store, undigested, verify, write_object
from relope.store.format.block import check_block
from relope.store.grades import read_grades
from relope.store.share.pull import pull
from relope.store.share.push import push

BESIDE = (
    "zarr.json",
    "parts/zarr.json",
    "catalog/1.json",
    "grades/exact@1.parquet",
    "plan.json",
    "skipped.json",
    "here.json",
    "block_3/COMMIT.json",
    "block_3/block.safetensors",
    "block_3/config.json",
    "block_3/replay.json",
)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return furnish(make_store(tmp_path / "x.zarr"))


def test_e1_verify_finds_sixty_of_sixty_flipped_bits(made: Made) -> None:
    assert verify(made.path, deep=True) == [] and undigested(made.path) == []
    rng, missed = np.random.default_rng(1), []
    for name in BESIDE:
        for _ in range(6):
            bit = int(rng.integers(8 * (made.path / name).stat().st_size))
            flip(made.path / name, bit)
            found = {problem.file for problem in verify(made.path)}
            if not found or (name != "block_3/COMMIT.json" and name not in found):
                missed.append((name, bit))
            flip(made.path / name, bit)
    assert missed == [] and verify(made.path) == []


@pytest.mark.parametrize("name", BESIDE[3:])
def test_e1_a_file_without_its_digest_is_named(made: Made, name: str) -> None:
    path = made.path / name
    if path.suffix == ".parquet":
        pl.read_parquet(path).write_parquet(path)
    elif path.parent == made.path:
        value = json.loads(path.read_text())
        write_json(path, {key: value[key] for key in value if key != "sha256"})
    else:
        (path.parent / "COMMIT.json").unlink()
    found = verify(made.path)
    assert name in {problem.file for problem in found} or name.endswith("COMMIT.json")
    assert found and {problem.what for problem in found} == {"is not under a digest"}


def test_e1_readers_refuse_what_is_damaged(made: Made) -> None:
    for name, read in {
        "zarr.json": lambda: open_store(made.path),
        "grades/exact@1.parquet": lambda: read_grades(open_store(made.path), None),
        "block_3/block.safetensors": lambda: check_block(made.path, "block_3"),
        f"parts/{made.parts[0]}/samples.parquet": lambda: open_store(made.path).samples,
        "plan.json": lambda: convert(made.path, made.path.with_name("new.zarr")),
    }.items():
        read()
        bit = 8 * ((made.path / name).stat().st_size // 2)
        flip(made.path / name, bit)
        with pytest.raises(StoreError, match=r"damaged|is no "):
            shutil.rmtree(made.path.with_name("new.zarr"), ignore_errors=True)
            read()
        flip(made.path / name, bit)


def test_e1_a_damaged_block_gets_no_fresh_digest(made: Made, tmp_path: Path) -> None:
    flip(made.path / "block_3" / "block.safetensors", 777)
    with pytest.raises(StoreError, match=r"block_3/block\.safetensors in .* is damaged"):
        push(made.path, (tmp_path / "team.zarr").as_uri())
    assert not (tmp_path / "team.zarr" / "block_3").exists()
    with pytest.raises(StoreError, match=r"block_3/block\.safetensors in .* is damaged"):
        convert(made.path, tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr" / "block_3").exists()


def test_e1_digests_travel(made: Made, tmp_path: Path) -> None:
    push(made.path, (tmp_path / "team.zarr").as_uri())
    pull((tmp_path / "team.zarr").as_uri(), tmp_path / "pulled.zarr")
    convert(made.path, tmp_path / "new.zarr", codec="zstd")
    for name in ("pulled.zarr", "new.zarr"):
        assert verify(tmp_path / name, deep=True) == [], name
        for file in (*BESIDE[7:], "plan.json"):
            assert (tmp_path / name / file).read_bytes() == (made.path / file).read_bytes()


def test_e1_a_store_of_format_1_says_what_is_under_no_digest(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "data" / "made_at_d3e24c3" / "tiny.zarr"
    shutil.copytree(old, tmp_path / "x.zarr")
    done = steps.run(build("store verify", {"store": str(tmp_path / "x.zarr")}))
    assert not done.failed and "not under a digest, in a store of format 1: " in done.text
    assert undigested(tmp_path / "x.zarr") == ["zarr.json", "grades/auto@3.3.parquet"]
    write_object(tmp_path / "x.zarr", tmp_path / "x.zarr" / "plan.json", {"units": []})
    assert "plan.json" not in undigested(tmp_path / "x.zarr") and verify(tmp_path / "x.zarr") == []
