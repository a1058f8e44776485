"""Look for damage, tampering and gaps in a store, without ever failing because of them."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from relope.errors import StoreError
from relope.provenance import digest, file_digest, pretty
from relope.store.beside import group_fault, look_beside
from relope.store.format.arrays import ArrayReader, open_array, read_sample
from relope.store.format.catalog import catalog_numbers, parts_content_id, read_catalog
from relope.store.format.content import answer_content, sample_content
from relope.store.format.layout import (
    COMMIT,
    LOCK,
    META,
    SAMPLES,
    TEMPORARY,
    THUMBNAILS,
    catalog_folder,
    is_part_id,
    part_folder,
    part_id,
    parts_folder,
    read_json,
    read_small,
)
from relope.store.format.manifest import FORMAT_VERSION, StoreManifest, array_specs, parse_manifest, read_manifest
from relope.store.format.samples import RESERVED, read_samples
from relope.store.format.thumbnails import read_thumbnails

_COMMIT_KEYS = {"format_version", "part", "n_samples", "n_tokens", "samples", "files"}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        part: part id; empty when the store as a whole is meant.
        file: path below the part, or below the store.
        what: what is wrong with it.
    """

    part: str
    file: str
    what: str


def verify(path: Path | str, deep: bool = False) -> list[Problem]:
    """Return everything that is wrong with a store; an empty list when nothing is.

    Args:
        path: the store's folder.
        deep: also recompute every sample's content digest from the arrays.

    Raises:
        NotFoundError: nothing is at the path.
    """
    path = Path(path)
    try:
        manifest = _manifest(path)
        beside = list(look_beside(path, manifest))
    except StoreError as error:
        return [Problem("", META, str(error))]
    damaged = [Problem("", finding.name, finding.what) for finding in beside if finding.what]
    if manifest.format_version > 1:
        damaged += [Problem("", finding.name, "is not under a digest") for finding in beside if not finding.what]
    return [*_check_parts(path, manifest, deep), *_check_catalogs(path), *damaged]


def undigested(path: Path | str) -> list[str]:
    """Return the files of a store that its format puts under no digest, so that nobody can say whether they changed.

    A store of format 1 has such files beside its parts; in later ones `verify` counts them as problems.

    Raises:
        StoreError: the manifest is damaged.
    """
    path = Path(path)
    manifest = _manifest(path)
    beside = look_beside(path, manifest) if manifest.format_version == 1 else ()
    return [finding.name for finding in beside if not finding.what]


def _manifest(path: Path) -> StoreManifest:
    """Return the manifest, also of a store with links in it: each is named."""
    return parse_manifest(path) if (path / META).is_file() else read_manifest(path)


def _check_catalogs(store: Path) -> Iterator[Problem]:
    if catalog_folder(store).is_symlink():
        return
    for number in catalog_numbers(store):
        name = f"catalog/{number}.json"
        try:
            catalog = read_catalog(store, number)
            if read_small(store, store / name) != pretty(catalog.document):
                yield Problem("", name, "is damaged: not what a writer writes")
            absent = [part for part in catalog.parts if not (part_folder(store, part) / COMMIT).is_file()]
            for part in absent:
                yield Problem(part, name, "names a part that is absent")
            if not absent and parts_content_id(store, catalog.parts) != catalog.content_id:
                yield Problem("", name, "content_id does not match the samples of its parts")
        except StoreError as error:
            yield Problem("", name, str(error))


def _check_parts(store: Path, manifest: StoreManifest, deep: bool) -> Iterator[Problem]:
    folder = parts_folder(store)
    if folder.is_symlink() or not folder.is_dir():
        yield Problem("", "parts", "is missing, no folder, or a symbolic link")
        return
    yield from (Problem("", fault.name, fault.what) for fault in group_fault(store))
    for entry in sorted(folder.iterdir()):
        name = f"parts/{entry.name}"
        if entry.is_symlink():
            yield Problem("", name, "is a symbolic link")
        elif is_part_id(entry.name) and entry.is_dir():
            yield from _check_part(store, manifest, entry.name, deep)
        elif entry.name != META and not entry.name.startswith(TEMPORARY):
            yield Problem("", name, "unexpected: neither a part nor a temporary folder")


def _check_part(store: Path, manifest: StoreManifest, part: str, deep: bool) -> Iterator[Problem]:
    try:
        commit = _read_commit(store, part)
    except StoreError as error:
        yield Problem(part, COMMIT, str(error))
        return
    files = list(_check_files(part_folder(store, part), commit["files"]))
    yield from (Problem(part, name, what) for name, what in files)
    damaged = {name for name, _ in files}
    if SAMPLES in damaged:
        return
    for name, what in part_faults(store, manifest, part, commit, deep):
        if not any(file == name or file.startswith(f"{name}/") for file in damaged):
            yield Problem(part, name, what)


def _read_commit(store: Path, part: str) -> dict[str, Any]:
    """Return a part's COMMIT.json, which must be spelled exactly as a writer spells it."""
    path = part_folder(store, part) / COMMIT
    commit = read_json(store, path)
    spelled = json.dumps(commit, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if not isinstance(commit, dict) or set(commit) != _COMMIT_KEYS or spelled.encode() != path.read_bytes():
        raise StoreError("is damaged: not what a writer writes")
    if commit["part"] != part or commit["format_version"] not in range(1, FORMAT_VERSION + 1):
        raise StoreError(f"is of part {commit['part']!s:.80}, format {commit['format_version']!s:.80}")
    records = commit["files"]
    if not isinstance(records, dict) or not all(
        isinstance(record, dict) and set(record) == {"bytes", "sha256"} for record in records.values()
    ):
        raise StoreError("is damaged: files must hold bytes and sha256 of each file")
    return commit


def _check_files(folder: Path, records: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    plain, strange = _walk(folder)
    yield from ((name, "is a symbolic link or no plain file") for name in strange)
    for name, record in sorted(records.items()):
        if name != PurePosixPath(name).as_posix() or name.startswith("/") or ".." in name.split("/"):
            yield name, "is a path that could lead outside the part; it was not read"
        elif name not in plain:
            if name not in strange:
                yield name, "is missing"
        elif (size := (folder / name).stat().st_size) != record["bytes"]:
            yield name, f"has {size} bytes, COMMIT.json says {record['bytes']!s:.40}"
        elif file_digest(folder / name) != record["sha256"]:
            yield name, "its sha256 is not the one in COMMIT.json"
    yield from ((name, "unexpected: not in COMMIT.json") for name in sorted(plain - {*records, COMMIT, LOCK}))


def _walk(folder: Path) -> tuple[set[str], list[str]]:
    """Return the plain files below a folder, and what is neither a plain file nor a folder."""
    plain, strange = set(), []
    for root, folders, names in os.walk(folder, followlinks=False):
        for name in [*folders, *names]:
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                strange.append(relative)
            elif path.is_file():
                plain.add(relative)
    return plain, sorted(strange)


def part_faults(
    store: Path, manifest: StoreManifest, part: str, commit: dict[str, Any], deep: bool
) -> Iterator[tuple[str, str]]:
    """Yield file and fault where a part's files, each intact, do not agree with one another.

    Args:
        store: the store's folder.
        manifest: of the store.
        part: part id.
        commit: the part's COMMIT.json.
        deep: also hold every sample's rows against its digest.
    """
    try:
        samples = read_samples(store, part)
    except StoreError as error:
        yield SAMPLES, str(error)
        return
    ids = samples["id"].to_list()
    n_tokens = int(samples["n_tokens"].sum())
    counts: dict[str, object] = {"n_samples": len(ids), "n_tokens": n_tokens, "samples": digest(ids)}
    for name, value in counts.items():
        if commit[name] != value:
            yield COMMIT, f"{name} is {commit[name]!s:.80}, the samples say {value}"
    if twice := samples.filter(samples["id"].is_duplicated())["id"].unique().sort().to_list():
        yield SAMPLES, f"has {len(twice)} sample ids more than once, e.g. {twice[0]!r}"
    if part_id(manifest.recipe_id, ids) != part:
        yield SAMPLES, "its samples, in this order, do not hash to the part's id under this recipe"
    try:
        read_thumbnails(store, part)
    except StoreError as error:
        yield THUMBNAILS, str(error)
    arrays: dict[str, ArrayReader] = {}
    specs = array_specs(manifest)
    for name, spec in specs.items():
        try:
            arrays[name] = open_array(store, part, spec, n_tokens if spec.per_token else len(ids))
        except StoreError as error:
            yield name, str(error)
    if deep and len(arrays) == len(specs):
        yield from _check_content(manifest, samples, arrays)


def _check_content(
    manifest: StoreManifest, samples: pl.DataFrame, arrays: dict[str, ArrayReader]
) -> Iterator[tuple[str, str]]:
    """Yield the first sample of a part whose rows are not the ones that were written."""
    if manifest.answers_only:
        yield from _check_answers(samples)
        return
    specs = array_specs(manifest)
    written = samples.select("id", "first_token", "n_tokens", "content").iter_rows()
    for local, (sample, first_token, n_tokens, content) in enumerate(written):
        rows = {}
        for name, spec in specs.items():
            try:
                rows[name] = read_sample(arrays[name], spec, local, first_token, n_tokens)
            except StoreError as error:
                yield name, str(error)
                return
        if sample_content(manifest, rows) != content:
            yield SAMPLES, f"the rows of sample {sample!r} do not hash to its content digest"
            return
        for layer in manifest.token_layers:
            if rows[f"last/{layer}"].tobytes() != rows[f"hidden/{layer}"][-1:].tobytes():
                yield f"last/{layer}", f"the row of sample {sample!r} is not its last one in hidden/{layer}"
                return


def _check_answers(samples: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the first sample whose row is not the one that was written."""
    for row in samples.iter_rows(named=True):
        if answer_content({name: value for name, value in row.items() if name not in RESERVED}) != row["content"]:
            yield SAMPLES, f"the row of sample {row['id']!r} does not hash to its content digest"
            return
