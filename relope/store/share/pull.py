"""Take a shared store, or some of it, into a local one; merge stores of one recipe."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relope.errors import InvalidInputError, NotFoundError, OutputError, StoreError, unknown_split
from relope.locations import Location, as_location, is_uri
from relope.store.format.commit import Commit
from relope.store.format.here import keep_here
from relope.store.format.layout import META, part_id
from relope.store.format.manifest import StoreManifest, array_specs, read_manifest, recipe_changes
from relope.store.share.remote import Remote
from relope.store.share.schemes import open_remote
from relope.store.share.sidecars import pull_blocks, pull_grades, pull_made, pull_plan
from relope.store.share.snapshot import RemoteSnapshot, snapshot_of, stores_below
from relope.store.share.transfer import Meter, check_meaning, download, files_of, seal_whole, staging
from relope.store.subset import subset_manifest, write_subset
from relope.store.writer import StoreWriter, create_or_open
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
        besides: names of the sidecar files that were written.
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
    location = as_location(uri)
    out = out or Path("runs") / location.name
    with snapshot_of(open_remote(location)) as snapshot:
        snapshot.manifest  # noqa: B018 (says that there is no store before anything else is asked)
        snapshot.refresh(samples=True)
        ids = None if not splits else _of_splits(snapshot, splits)
        manifest = subset_manifest(snapshot.manifest, layers, splits, snapshot.catalog.content_id, snapshot.uri)
        writer = create_or_open(out, manifest)
        pulled = fetch_parts(snapshot, writer, ids, verify, progress)
        writer.sweep()  # of what killed pulls left, all that was of use has been taken up by now
        pulled.content_id = writer.publish([*pulled.kept, *pulled.parts]).content_id
        pulled.besides = pull_grades(snapshot, out, writer.committed())
        pulled.besides += pull_blocks(snapshot, out, writer.manifest.layers)
        pulled.besides += pull_made(snapshot, out)
        pulled.besides += [] if layers or splits else pull_plan(snapshot, out)
        if not is_uri(uri):  # a store of this machine, whose paths lead to the same here
            keep_here(out, read_manifest(Path(uri)).recorded)
        return pulled


def merge(stores: Sequence[Path | str], out: Path, progress: Progress = no_progress) -> list[Pulled]:
    """Unite stores of one recipe; of a sample that is in several, the first given counts.

    Args:
        stores: folders or URIs.
        out: the store that gets everything; may be one of them.
        progress: told the MiB copied and to copy, of one store after the other.

    Raises:
        StoreError: they are not of one recipe, or a sample asks something else in one than in another; nothing
            is written.
    """
    if len(stores) < 2:
        raise InvalidInputError(
            f"merge needs two or more stores, got {len(stores)}", hint="`relope store pull` copies one"
        )
    first: StoreManifest | None = None
    asked: dict[str, str] = {}
    for ref in stores:
        with snapshot_of(open_remote(as_location(ref))) as snapshot:
            first = first or snapshot.manifest
            if changes := recipe_changes(first, snapshot.manifest):
                raise StoreError(
                    f"{ref} holds another recipe than {stores[0]}: {changes}; only stores of one recipe can be merged"
                )
            snapshot.refresh(samples=True)
            _add_asked(asked, snapshot)
    others = [ref for ref in stores if as_location(ref) != as_location(out)]
    return [pull(ref, out, progress=progress) for ref in others]


def _add_asked(asked: dict[str, str], snapshot: RemoteSnapshot) -> None:
    """Add id → input digest of a store's samples to those of others of its recipe.

    Raises:
        StoreError: a sample asks something else here: two files of one name, or two versions of one.
    """
    for part in snapshot.catalog.parts:
        table = snapshot.samples(part)
        if "input" not in table.columns:
            continue
        for name, digest in table.select("id", "input").rows():
            if asked.setdefault(name, digest) != digest:
                raise StoreError(
                    f"sample {name!r} asks something else in {snapshot.uri} than in another of the stores; nothing "
                    "was written",
                    hint="extract the data sets under names of their own: --name",
                )


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
    with snapshot_of(_same_recipe(as_location(uri), writer)) as snapshot:
        if changes := recipe_changes(snapshot.manifest, writer.manifest):
            raise StoreError(
                f"{snapshot.uri} holds another recipe than this run: {changes}",
                hint="leave out --reuse, or extract with the settings of that store",
            )
        snapshot.refresh(samples=True)
        pulled = fetch_parts(snapshot, writer, set(wanted) - writer.committed(), True, progress)
        pulled.besides = pull_plan(snapshot, writer.path)
        return pulled


def check_shared(uri: Path | str) -> None:
    """Refuse a place to take samples from that holds neither a store nor a folder of some.

    Raises:
        NotFoundError: there is none, or it cannot be reached.
        StoreError: what is there is damaged.
    """
    remote = open_remote(as_location(uri))
    if remote.read(META) is not None or not stores_below(remote):
        with snapshot_of(remote) as snapshot:
            _ = snapshot.manifest


def _same_recipe(location: Location, writer: StoreWriter) -> Remote:
    """Return the store at a location, or the one right below it that has the recipe of a run."""
    remote = open_remote(location)
    if remote.read(META) is not None or not (below := stores_below(remote)):
        return remote
    for inner in below:
        with snapshot_of(open_remote(inner)) as snapshot:
            if snapshot.manifest.recipe_id == writer.manifest.recipe_id:
                return snapshot.remote
    names = ", ".join(inner.name for inner in below[:8])
    raise NotFoundError(f"none of the {len(below)} stores below {location.uri} has this run's recipe ({names})")


def fetch_parts(
    snapshot: RemoteSnapshot, writer: StoreWriter, ids: Collection[str] | None, verify: bool, progress: Progress
) -> Pulled:
    """Fetch the parts of a remote store that a local one lacks, and cut those of which not all is wanted.

    Args:
        snapshot: refreshed, with the samples of its parts.
        writer: the local store; its manifest says which layers are wanted.
        ids: the samples that are wanted; None is all.
        verify: check the sha256 of each file.
        progress: told the MiB received and to receive.
    """
    pieces = list(_pieces(snapshot, writer.manifest, ids))
    sealed = set(writer.sealed())
    missing = [piece for piece in pieces if piece.becomes not in sealed]
    total = sum(piece.n_bytes for piece in missing)
    free = shutil.disk_usage(writer.path).free
    if total > free:
        raise OutputError(
            f"{snapshot.uri} has {total:,} bytes to fetch, but {writer.path} has {free:,} free", hint="free space"
        )
    meter, pulled = Meter(progress, total), Pulled(writer.path)
    pulled.kept = [piece.becomes for piece in pieces if piece.becomes in sealed]
    for piece in missing:
        with staging(writer.path, piece.commit.part) as staged:
            download(snapshot, piece.commit, piece.names, staged, verify, meter)
            if piece.whole:
                if verify:
                    check_meaning(staged, writer.manifest, piece.commit.part, snapshot.uri, "nothing of it is kept")
                seal_whole(writer.path, staged, piece.commit)
            else:
                write_subset(staged, piece.commit.part, writer.path, writer.manifest, piece.ids)
        pulled.parts.append(piece.becomes)
        pulled.n_samples += len(piece.ids)
        pulled.n_bytes = meter.done
    return pulled


def _pieces(snapshot: RemoteSnapshot, manifest: StoreManifest, ids: Collection[str] | None) -> Iterator[_Piece]:
    left = None if ids is None else set(ids)
    for part in snapshot.catalog.parts:
        commit = snapshot.commit(part)
        samples = snapshot.samples(part, ("id",))["id"].to_list()
        if part_id(snapshot.manifest.recipe_id, samples) != part:
            raise StoreError(
                f"the samples of part {part} at {snapshot.uri} do not hash to its id; it was tampered with"
            )
        kept = samples if left is None else [name for name in samples if name in left]
        if left is not None:
            left -= set(kept)
        if not kept:
            continue
        becomes = part_id(manifest.recipe_id, kept)
        names = list(commit.files) if becomes == part else list(files_of(commit, list(array_specs(manifest))))
        yield _Piece(commit, kept, names, becomes)


def _of_splits(snapshot: RemoteSnapshot, splits: Sequence[str]) -> set[str]:
    tables = [snapshot.samples(part) for part in snapshot.catalog.parts]
    counts = Counter(str(split) for table in tables if "split" in table.columns for split in table["split"])
    for split in splits:
        if split not in counts:
            raise unknown_split(snapshot.uri, split, counts, "--split takes those; without it, all")
    return {name for table in tables for name in table.filter(table["split"].is_in(list(splits)))["id"]}
