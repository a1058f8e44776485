"""Share a store: upload the parts that a remote lacks, then list them in its next catalog."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relope.errors import InvalidInputError, OutputError, StoreError
from relope.locations import as_location, names_only
from relope.provenance import pretty
from relope.store.format.catalog import Catalog, newest_catalog, parts_content_id
from relope.store.format.commit import read_commit
from relope.store.format.layout import GROUP, META, sealed_parts
from relope.store.format.manifest import StoreManifest, manifest_document, read_manifest, recipe_changes
from relope.store.format.samples import read_samples
from relope.store.share.schemes import open_remote
from relope.store.share.sidecars import push_sidecars, undigested_blocks
from relope.store.share.snapshot import RemoteSnapshot, snapshot_of
from relope.store.share.transfer import Meter, push_part
from relope.types import Progress, no_progress

_ATTEMPTS = 100


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        uri: where the store is now.
        parts: ids of the parts that went up.
        kept: parts of ours that were there already.
        differing: of these, the ones whose values differ from ours in the last bits: theirs count.
        n_bytes: bytes sent.
        n_samples: samples of the shared store now.
        catalog: number of its newest catalog.
        content_id: root over its samples.
        besides: names of the sidecar files that were written.
        left_out: names of blocks that stay here, since they carry no digests.
    """

    uri: str
    parts: list[str]
    kept: list[str]
    differing: list[str]
    n_bytes: int
    n_samples: int
    catalog: int
    content_id: str
    besides: list[str]
    left_out: list[str]


def push(store: Path, uri: str, progress: Progress = no_progress) -> Pushed:
    """Share a local store, or add what it has to one that is shared already.

    Every sealed part goes up, also of a run that is not finished. What is there already is left
    alone, so that the same command goes on after an interruption.

    Args:
        store: the store's folder.
        uri: a URI, or a folder on a shared mount.
        progress: told the MiB sent and to send.

    Raises:
        NotFoundError: no such store, bucket or credentials.
        StoreError: the URI holds another recipe, or a part is damaged here.
        OutputError: the remote refuses to be written.
    """
    location = as_location(uri)
    manifest = read_manifest(store)
    if location.scheme == "file" and Path(location.key).resolve() == store.resolve():
        raise InvalidInputError(f"{uri} is the store itself", hint="give the folder or bucket of the team")
    order = _finished(store)
    with snapshot_of(open_remote(location)) as snapshot:
        _agree(store, manifest, snapshot)
        snapshot.refresh()
        missing = [part for part in order if part not in snapshot.sealed()]
        meter = Meter(progress, sum(read_commit(store, part).n_bytes for part in missing))
        sent = [part for part in missing if push_part(store, part, snapshot, meter)]
        catalog = _publish(snapshot, order)
        theirs = [part for part in order if part not in sent]
        return Pushed(
            uri=location.uri,
            parts=sent,
            kept=theirs,
            differing=[part for part in theirs if _differs(store, part, snapshot)],
            n_bytes=meter.done,
            n_samples=_n_samples(snapshot),
            catalog=catalog.number,
            content_id=catalog.content_id,
            besides=push_sidecars(store, snapshot),
            left_out=undigested_blocks(store),
        )


def _finished(store: Path) -> list[str]:
    order = list(newest_catalog(store).parts)
    order += [part for part in sealed_parts(store) if part not in order]
    if not order:
        raise StoreError(f"{store} has no finished part yet", hint="let `relope extract` seal one first")
    return order


def _agree(store: Path, manifest: StoreManifest, snapshot: RemoteSnapshot) -> None:
    """Create the remote store, or make sure that it has the same recipe."""
    if not snapshot.open():
        snapshot.remote.files("parts")  # names a missing bucket or mount before anything is written
        if others := set(snapshot.remote.folders()) - {"parts"}:
            names = ", ".join(sorted(others)[:5])
            raise StoreError(
                f"{snapshot.uri} holds other things ({names}), not a store: nothing was written",
                hint=f"give the store a name there, e.g. {snapshot.uri}/{store.name}",
            )
        snapshot.remote.swap(f"parts/{META}", pretty(GROUP), None)
        shared = dataclasses.replace(manifest, recorded=names_only(manifest.recorded))
        snapshot.remote.swap(META, pretty(manifest_document(shared)), None)
        snapshot.open()
    if changes := recipe_changes(snapshot.manifest, manifest):
        raise StoreError(
            f"{snapshot.uri} holds another recipe than {store}: {changes}",
            hint=f"push to another URI, e.g. {_other_uri(snapshot.uri, manifest.recipe_id)}",
        )


def _other_uri(uri: str, recipe_id: str) -> str:
    stem, dot, ending = uri.rpartition(".")
    return f"{stem}-{recipe_id[:8]}.{ending}" if dot and "/" not in ending else f"{uri}-{recipe_id[:8]}"


def _publish(snapshot: RemoteSnapshot, order: Sequence[str]) -> Catalog:
    """Create the next catalog: what the newest lists, then what is new; whoever is first wins, the others retry."""
    for _ in range(_ATTEMPTS):
        snapshot.refresh()
        listed = snapshot.catalog.parts if snapshot.catalog.number else ()
        new = [part for part in order if part in snapshot.sealed() and part not in listed]
        new += [part for part in snapshot.sealed() if part not in listed and part not in new]
        parts = (*listed, *new)
        snapshot.fetch_samples(parts)
        if snapshot.catalog.number and not new:
            return snapshot.catalog
        with snapshot.named():
            root = parts_content_id(snapshot.folder, parts)
        catalog = Catalog(snapshot.catalog.number + 1, parts, root)
        if snapshot.remote.swap(f"catalog/{catalog.number}.json", pretty(catalog.document), None):
            snapshot.catalog = catalog
            return catalog
    raise OutputError(
        f"other pushes took each of {_ATTEMPTS} catalog numbers at {snapshot.uri}", hint="run the command again"
    )


def _differs(store: Path, part: str, snapshot: RemoteSnapshot) -> bool:
    """Return whether the shared values of a part are others than ours; how they are packed does not count."""
    columns = ("id", "content")
    return not snapshot.samples(part, columns).equals(read_samples(store, part, columns))


def _n_samples(snapshot: RemoteSnapshot) -> int:
    """Return the number of distinct samples of the parts that count."""
    return len({name for part in snapshot.catalog.parts for name in snapshot.samples(part, ("id",))["id"]})
