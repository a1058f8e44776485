"""What a step reads and writes, and short digests of both: enough to say whether it must run again."""

import json
from collections.abc import Iterable
from pathlib import Path

from relope.fields import Names, Reads, Spec, marked
from relope.locations import is_uri
from relope.provenance import digest, file_digest
from relope.steps import step_of


def output_of(spec: Spec) -> Path:
    """Return where a step puts what it makes."""
    return step_of(spec).output(spec)


def inputs_of(spec: Spec) -> list[Path]:
    """Return the paths that a step may read, whether they are there or not."""
    named = [*marked(type(spec), Reads), *(name for name, mark in marked(type(spec), Names).items() if mark.or_path)]
    return [Path(ref) for name in named for ref in _refs(spec, name)] + step_of(spec).reads(spec)


def required_of(spec: Spec) -> list[Path]:
    """Return the files, stores and folders that must be there when a step begins; not those of a URI."""
    return [Path(ref) for name in marked(type(spec), Reads) for ref in _refs(spec, name) if not is_uri(ref)]


def _refs(spec: Spec, name: str) -> list[str]:
    """Return what a field refers to: nothing, one thing or several."""
    value = getattr(spec, name)
    listed = value if isinstance(value, (tuple, list)) else [value]
    return [str(ref) for ref in listed if ref]


def related(first: Path, second: Path) -> bool:
    """Return whether one path is the other, or lies beneath it."""
    n = min(len(first.parts), len(second.parts))
    return first.parts[:n] == second.parts[:n]


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
