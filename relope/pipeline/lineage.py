"""What a step reads and writes, and short digests of both: enough to say whether it must run again."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from relope.places import is_uri, outputs_beside
from relope.probes.router import explained_folder, folds_path, router_folder, router_name, scores_path
from relope.provenance import digest, file_digest
from relope.spec import Spec

INPUTS = (
    "store", "also", "reuse", "captions", "large_store", "labels_store", "scores", "router", "costs", "reports",
    "sweeps", "folder", "first", "second",
)  # fmt: skip
"""Fields of specifications that may name something an earlier step made."""

EXTERNAL = ("model", "dataset")
"""Fields that may name a folder or file of the user's."""


def output_of(step: str, spec: Spec) -> Path:
    """Return where a step puts what it makes."""
    given: Any = spec.model_dump()
    if given.get("out"):
        return Path(given["out"])
    if step == "extract":
        return Path("runs") / f"{Path(given['dataset']).stem}.zarr"
    if step == "caption":
        return Path("runs") / f"{Path(given['dataset']).stem}.captions.jsonl"
    if step == "grade":
        return Path(given["store"]) / "grades"
    if step == "fit" and given["folds"]:
        return folds_path(given["store"], given["method"], given["folds"], given["seed"])
    if step == "fit":
        return router_folder(given["store"], router_name(given["method"], given["seed"]))
    if step == "predict":
        return scores_path(given["store"], Path(given["router"]).name)
    if step == "sweep":
        return Path(f"{outputs_beside(given['store'])}.sweeps") / f"{given['method']}.parquet"
    if step == "explain":
        return explained_folder(given["store"], given["sample"])
    if step == "study":
        return Path("runs") / str(given["study"])
    return Path(f"{outputs_beside(given['store'])}.report") if given.get("store") else Path("runs") / step


def inputs_of(step: str, spec: Spec) -> list[Path]:
    """Return the paths that a step may read, whether they are there or not."""
    given: Any = spec.model_dump()
    found: list[Path] = []
    for name in (*INPUTS, *EXTERNAL):
        value = given.get(name)
        listed = value if isinstance(value, (tuple, list)) else [value]
        found += [Path(one) for one in listed if one]
    if step == "evaluate" and not given["scores"]:
        found.append(scores_path(given["store"], "x").parent)
    return found


def given_of(spec: Spec) -> list[Path]:
    """Return the files, stores and folders that must be there when a step begins; not those of a URI."""
    given: Any = spec.model_dump()
    named = [given.get(name) for name in INPUTS if name != "router"]  # which may also name a method
    listed = [one for value in named for one in (value if isinstance(value, (tuple, list)) else [value]) if one]
    return [Path(one) for one in listed if not is_uri(one)]


def related(first: Path, second: Path) -> bool:
    """Return whether one path is the other, or lies beneath it."""
    one, other = first.parts, second.parts
    n = min(len(one), len(other))
    return one[:n] == other[:n]


def stamp(path: Path) -> str | None:
    """Return a digest of what lies at a path: of a store's catalog and verdicts, not of its arrays.

    None where there is nothing.
    """
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        return None
    if (path / "zarr.json").is_file():
        return _of_files([path / "zarr.json", *_newest_catalog(path), *sorted((path / "grades").glob("*.parquet"))])
    for record in ("router.json", "report.json", "study.json"):
        if (path / record).is_file():
            return _of_files([path / record])
    if (path / "config.json").is_file():
        return digest([[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(path.iterdir())])
    return digest([[child.name, stamp(child)] for child in sorted(path.iterdir()) if not child.name.startswith(".")])


def store_parts(store: Path) -> list[str] | None:
    """Return the parts that a store's newest catalog names, None where there is no catalog."""
    for path in _newest_catalog(store):
        return sorted(json.loads(path.read_text(encoding="utf-8"))["parts"])
    return None


def _newest_catalog(store: Path) -> list[Path]:
    return sorted((store / "catalog").glob("*.json"), key=lambda file: (len(file.name), file.name))[-1:]


def _of_files(files: Iterable[Path]) -> str:
    return digest([[file.name, file_digest(file)] for file in files])
