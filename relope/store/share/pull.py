"""Take a shared store, or some of it, into a local one; merge stores of one recipe."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relope.errors import InvalidInputError, NotFoundError, OutputError, StoreError, unknown
from relope.places import Place, as_place
from relope.store.format.commit import Commit
from relope.store.format.layout import META, part_id
from relope.store.format.manifest import StoreManifest, array_specs
from relope.store.format.samples import read_samples
from relope.store.share.remote import Remote, open_remote
from relope.store.share.sidecars import pull_blocks, pull_grades, pull_plan
from relope.store.share.snapshot import Mirror, mirrored, stores_below
from relope.store.share.transfer import Meter, download, files_of, seal_whole, staging
from relope.store.subset import subset_manifest, write_subset
from relope.store.writer import StoreWriter, create_or_open, differences
from relope.types import Progress, no_progress


@dataclass
class Pulled:
    """What a pull did.

    Attributes:
        path: the local store.
        parts: ids of the parts that were added to it.
        kept: parts that it had already.
        n_bytes: bytes received, with those of an interrupted pull that were kept.
        n_samples: samples that were added.
        content_id: root over the samples of the local store now.
        besides: files beside the parts that were written.
    """

    path: Path
    parts: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    n_bytes: int = 0
    n_samples: int = 0
    content_id: str = ""
    besides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """A part to fetch: what of it, and which part of the local store it becomes."""

    commit: Commit
    ids: list[str]
    names: list[str]
    becomes: str

    @property
    def whole(self) -> bool:
        return self.becomes == self.commit.part

    @property
    def n_bytes(self) -> int:
        return sum(self.commit.files[name].n_bytes for name in self.names)


def pull(
    uri: Path | str,
    out: Path | None = None,
    *,
    layers: Sequence[int] = (),
    splits: Sequence[str] = (),
    verify: bool = True,
    progress: Progress = no_progress,
) -> Pulled:
    """Take a shared store into a local one, which is made or must have the same recipe.

    What is there already is left alone: called again, it goes on after an interruption.

    Args:
        uri: a URI, or a folder.
        out: the local store; default ``runs/<name>``.
        layers: only these.
        splits: only samples of these.
        verify: check the sha256 of each file; sizes are checked in any case.
        progress: told the MiB received and to receive.

    Raises:
        NotFoundError: no store, layer, split or credentials there.
        StoreError: what is there is damaged or was tampered with, or ``out`` holds another recipe.
        OutputError: the disk is full or read-only, or the remote cannot be reached.
    """
    place = as_place(uri)
    out = out or Path("runs") / place.name
    with mirrored(open_remote(place)) as mirror:
        mirror.manifest  # noqa: B018 (says that there is no store before anything else is asked)
        mirror.refresh(samples=True)
        ids = None if not splits else _of_splits(mirror, splits)
        manifest = subset_manifest(mirror.manifest, layers, splits, mirror.catalog.content_id, mirror.uri)
        writer = create_or_open(out, manifest)
        found = fetch_parts(mirror, writer, ids, verify, progress)
        found.content_id = writer.publish([*found.kept, *found.parts]).content_id
        found.besides = pull_grades(mirror, out, writer.committed())
        found.besides += pull_blocks(mirror, out, writer.manifest.layers)
        found.besides += [] if layers or splits else pull_plan(mirror, out)
        return found


def merge(stores: Sequence[Path | str], out: Path, progress: Progress = no_progress) -> list[Pulled]:
    """Unite stores of one recipe; of a sample that is in several, the first given counts.

    Args:
        stores: folders or URIs.
        out: the store that gets everything; may be one of them.
        progress: told the MiB copied and to copy, of one store after the other.

    Raises:
        StoreError: they are not of one recipe; the differing fields are named, nothing is written.
    """
    if len(stores) < 2:
        raise InvalidInputError(f"merge needs two or more stores, got {len(stores)}; `relope store pull` copies one")
    first: StoreManifest | None = None
    for ref in stores:
        with mirrored(open_remote(as_place(ref))) as mirror:
            first = first or mirror.manifest
            if changes := differences(first, mirror.manifest):
                raise StoreError(
                    f"{ref} holds another recipe than {stores[0]}: {changes}\nonly stores of one recipe can be merged"
                )
    others = [ref for ref in stores if as_place(ref) != as_place(out)]
    return [pull(ref, out, progress=progress) for ref in others]


def reuse(uri: Path | str, writer: StoreWriter, wanted: Collection[str], progress: Progress = no_progress) -> Pulled:
    """Take the samples that a run would have to compute from a shared store of the same recipe.

    Args:
        uri: a shared store, or a folder of such, of which the one with the same recipe is taken.
        writer: the local store.
        wanted: ids of the samples that the run asks for.
        progress: told the MiB received and to receive.

    Raises:
        StoreError: the store there has another recipe; the differing fields are named.
    """
    with mirrored(_same_recipe(as_place(uri), writer)) as mirror:
        if changes := differences(mirror.manifest, writer.manifest):
            raise StoreError(
                f"{mirror.uri} holds another recipe than this run: {changes}\n"
                "leave out --reuse, or extract with the settings of that store"
            )
        mirror.refresh(samples=True)
        found = fetch_parts(mirror, writer, set(wanted) - writer.committed(), True, progress)
        found.besides = pull_plan(mirror, writer.path)
        return found


def _same_recipe(place: Place, writer: StoreWriter) -> Remote:
    """Return the store at a place, or the one right below it that has the recipe of a run."""
    remote = open_remote(place)
    if remote.read(META) is not None or not (below := stores_below(remote)):
        return remote
    for inner in below:
        with mirrored(open_remote(inner)) as mirror:
            if mirror.manifest.recipe_id == writer.manifest.recipe_id:
                return mirror.remote
    names = ", ".join(inner.name for inner in below[:8])
    raise NotFoundError(f"none of the {len(below)} stores below {place.uri} has this run's recipe ({names})")


def fetch_parts(
    mirror: Mirror, writer: StoreWriter, ids: Collection[str] | None, verify: bool, progress: Progress
) -> Pulled:
    """Fetch the parts of a mirrored store that a local one lacks, and cut those of which not all is wanted.

    Args:
        mirror: refreshed, with the samples of its parts.
        writer: the local store; its manifest says which layers are wanted.
        ids: the samples that are wanted; None is all.
        verify: check the sha256 of each file.
        progress: told the MiB received and to receive.
    """
    pieces = list(_pieces(mirror, writer.manifest, ids))
    here = set(writer.sealed())
    missing = [piece for piece in pieces if piece.becomes not in here]
    total = sum(piece.n_bytes for piece in missing)
    free = shutil.disk_usage(writer.path).free
    if total > free:
        raise OutputError(f"{mirror.uri} has {total:,} bytes to fetch, but {writer.path} has {free:,} free; free space")
    meter, found = Meter(progress, total), Pulled(writer.path)
    found.kept = [piece.becomes for piece in pieces if piece.becomes in here]
    for piece in missing:
        with staging(writer.path, piece.commit.part) as staged:
            download(mirror, piece.commit, piece.names, staged, verify, meter)
            if piece.whole:
                seal_whole(writer.path, staged, piece.commit)
            else:
                write_subset(staged, piece.commit.part, writer.path, writer.manifest, piece.ids)
        found.parts.append(piece.becomes)
        found.n_samples += len(piece.ids)
        found.n_bytes = meter.done
    return found


def _pieces(mirror: Mirror, manifest: StoreManifest, ids: Collection[str] | None) -> Iterator[_Piece]:
    left = None if ids is None else set(ids)
    for part in mirror.catalog.parts:
        commit = mirror.commit(part)
        with mirror.named():
            samples = read_samples(mirror.folder, part, ("id",))["id"].to_list()
        if part_id(mirror.manifest.recipe_id, samples) != part:
            raise StoreError(f"the samples of part {part} at {mirror.uri} do not hash to its id; it was tampered with")
        kept = samples if left is None else [name for name in samples if name in left]
        if left is not None:
            left -= set(kept)
        if not kept:
            continue
        becomes = part_id(manifest.recipe_id, kept)
        names = list(commit.files) if becomes == part else list(files_of(commit, list(array_specs(manifest))))
        yield _Piece(commit, kept, names, becomes)


def _of_splits(mirror: Mirror, splits: Sequence[str]) -> set[str]:
    with mirror.named():
        tables = [read_samples(mirror.folder, part) for part in mirror.catalog.parts]
    there = {split for table in tables if "split" in table.columns for split in table["split"].unique()}
    for split in splits:
        if split not in there:
            raise unknown(f"split of {mirror.uri}", split, map(str, there))
    return {name for table in tables for name in table.filter(table["split"].is_in(list(splits)))["id"]}
