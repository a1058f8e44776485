"""A small store whose every number is known. (Not in conftest.py: several folders have one of that name.)"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import polars as pl

from relope.locations import as_location
from relope.provenance import file_digest, write_json
from relope.seals import write_sealed_frame
from relope.store import StoreManifest, StoreWriter, create_or_open, write_block, write_object
from relope.store.format.manifest import read_manifest
from relope.store.share.schemes import open_remote
from relope.store.subset import write_subset
from relope.types import Capture

HIDDEN = 6
LENGTHS = {"a": 3, "b": 300, "c": 1, "d": 257, "e": 40, "f": 512, "g": 7}
PARTS = [["a", "b", "c"], ["d"], ["e", "f", "g"]]


@dataclass
class Made:
    """A written store and what went into it."""

    path: Path
    manifest: StoreManifest
    captures: dict[str, Capture]
    writer: StoreWriter
    parts: list[str]

    @property
    def ids(self) -> list[str]:
        return list(self.captures)

    def folder(self, number: int = 0) -> Path:
        return self.path / "parts" / self.parts[number]


def make_manifest(**changes: Any) -> StoreManifest:
    fields: dict[str, Any] = {
        "identity": {"model": {"name": "tiny", "digest": "ab"}, "prompt": "Q: {question}", "dtype": "bfloat16"},
        "layers": (2, 3),
        "hidden_size": HIDDEN,
        "dtype": "bfloat16",
        "token_columns": ("position", "kind"),
        "recorded": {"device": "cpu", "batch_size": 4},
        "grader": "exact",
    }
    return StoreManifest(**{**fields, **changes})


def make_capture(name: str, manifest: StoreManifest, n_tokens: int = 0) -> Capture:
    """Values that depend on the sample's name alone; bfloat16 made by ml_dtypes, not by us."""
    rng = np.random.default_rng(list(name.encode()))
    n_tokens = n_tokens or LENGTHS[name]

    def values(*shape: int) -> np.ndarray[Any, Any]:
        drawn = rng.normal(scale=100, size=shape).astype(np.float32)
        return drawn.astype(ml_dtypes.bfloat16).view(np.uint16) if manifest.dtype == "bfloat16" else drawn

    hidden = {layer: values(n_tokens, manifest.hidden_size) for layer in manifest.layers}
    tokens = np.stack([np.arange(n_tokens), np.arange(n_tokens) % 3 == 0], axis=1).astype(np.int32)
    return Capture(hidden=hidden, answer=values(manifest.hidden_size), tokens=tokens)


def make_row(name: str) -> dict[str, Any]:
    split = "test" if name in "ab" else "train"
    return {"id": name, "split": split, "question": f"what is {name}?", "logprobs": [-0.5] * len(name), "note": None}


def write_part(writer: StoreWriter, ids: Sequence[str], captures: dict[str, Capture]) -> str:
    with writer.part(ids) as part:
        for name in ids:
            part.append([make_row(name)], [captures[name]])
    return part.id


def make_store(
    path: Path,
    manifest: StoreManifest | None = None,
    parts: Sequence[Sequence[str]] = PARTS,
    lengths: Mapping[str, int] = LENGTHS,
    codec: str = "none",
) -> Made:
    manifest = manifest or make_manifest()
    captures = {name: make_capture(name, manifest, lengths[name]) for ids in parts for name in ids}
    writer = create_or_open(path, manifest, codec=codec)
    written = [write_part(writer, ids, captures) for ids in parts]
    writer.publish(written)
    return Made(path, manifest, captures, writer, written)


def as_float(bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Decode bfloat16 with ml_dtypes."""
    return bits.view(ml_dtypes.bfloat16).astype(np.float32) if bits.dtype == np.uint16 else bits


def furnish(made: Made) -> Made:
    """Put beside the parts of a store what an extraction leaves there: grades, plan, skipped samples, a block."""
    ids = made.ids
    graded = {"id": ids, "split": ["test"] * len(ids), "correct": [name in "aceg" for name in ids], "parsed": ids}
    write_sealed_frame(made.path / "grades" / "exact@1.parquet", pl.DataFrame(graded))
    write_object(made.path, made.path / "plan.json", {"units": [{"batch_size": 2, "ids": ids}]})
    write_object(made.path, made.path / "skipped.json", {"samples": {"z": {"split": "test", "reason": "none"}}})
    write_object(made.path, made.path / "here.json", {"dataset_source": "/home/ada/my/data.jsonl"})
    weights = np.random.default_rng(0).bytes(4096)
    write_block(made.path, 3, {"config.json": b"{}", "block.safetensors": weights, "replay.json": b"{}"})
    return made


def reseal(folder: Path, **changes: Any) -> None:
    """Make a part's COMMIT.json agree with its files again, as someone who tampers with a store would."""
    commit = json.loads((folder / "COMMIT.json").read_text())
    for name in commit["files"]:
        path = folder / name
        commit["files"][name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    write_json(folder / "COMMIT.json", {**commit, **changes})


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names_at(uri: str) -> list[str]:
    """Return the names of the files that a shared store has."""
    return [file.name for file in open_remote(as_location(uri)).files("")]


def as_of_another_model(store: Path, out: Path) -> Path:
    """Copy a store, grades too, so that it passes for the answers of a larger model."""
    old = read_manifest(store)
    identity = old.identity.with_fields(model_files="of a larger model")
    made = create_or_open(out, replace(old, identity=identity))
    for samples in (store / "parts").glob("*/samples.parquet"):
        ids = pl.read_parquet(samples)["id"].to_list()
        write_subset(store, samples.parent.name, made.path, made.manifest, ids)
    made.publish()
    shutil.copytree(store / "grades", out / "grades")
    return out
