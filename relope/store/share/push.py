"""Share a store: upload the parts that a remote lacks, then list them in its next catalog."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relope.errors import InvalidInputError, OutputError, StoreError
from relope.places import Place, as_place
from relope.provenance import pretty
from relope.store.format.catalog import Catalog, newest_catalog, parts_content_id
from relope.store.format.commit import read_commit
from relope.store.format.layout import GROUP, META, sealed_parts
from relope.store.format.manifest import StoreManifest, manifest_document, read_manifest
from relope.store.format.samples import read_samples
from relope.store.share.remote import open_remote
from relope.store.share.sidecars import push_besides
from relope.store.share.snapshot import Mirror, mirrored
from relope.store.share.transfer import Meter, push_part
from relope.store.writer import differences
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
        besides: files beside the parts that were written.
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
    place = as_place(uri)
    manifest = read_manifest(store)
    if place.scheme == "file" and Path(place.key).resolve() == store.resolve():
        raise InvalidInputError(f"{uri} is the store itself; give the folder or bucket of the team")
    order = _finished(store)
    with mirrored(open_remote(place)) as mirror:
        _agree(store, manifest, mirror)
        mirror.refresh()
        missing = [part for part in order if part not in mirror.sealed()]
        meter = Meter(progress, sum(read_commit(store, part).n_bytes for part in missing))
        sent = [part for part in missing if push_part(store, part, mirror, meter)]
        catalog = _publish(mirror, order)
        theirs = [part for part in order if part not in sent]
        return Pushed(
            uri=place.uri,
            parts=sent,
            kept=theirs,
            differing=[part for part in theirs if _differs(store, part, mirror)],
            n_bytes=meter.done,
            n_samples=n_samples(mirror),
            catalog=catalog.number,
            content_id=catalog.content_id,
            besides=push_besides(store, mirror),
        )


def _finished(store: Path) -> list[str]:
    order = list(newest_catalog(store).parts)
    order += [part for part in sealed_parts(store) if part not in order]
    if not order:
        raise StoreError(f"{store} has no finished part yet; let `relope extract` seal one first")
    return order


def _agree(store: Path, manifest: StoreManifest, mirror: Mirror) -> None:
    """Create the remote store, or make sure that it has the same recipe."""
    if not mirror.open():
        mirror.remote.files("parts")  # names a missing bucket or mount before anything is written
        if others := set(mirror.remote.folders()) - {"parts"}:
            raise StoreError(
                f"{mirror.uri} holds other things ({', '.join(sorted(others)[:5])}), not a store: nothing was written\n"
                f"give the store a name there, e.g. {mirror.uri}/{store.name}"
            )
        mirror.remote.swap(f"parts/{META}", pretty(GROUP), None)
        mirror.remote.swap(META, pretty(manifest_document(manifest)), None)
        mirror.open()
    if changes := differences(mirror.manifest, manifest):
        place = mirror.remote.place
        raise StoreError(
            f"{place.uri} holds another recipe than {store}: {changes}\n"
            f"push to another URI, e.g. {_other(place, manifest.recipe_id)}"
        )


def _other(place: Place, recipe_id: str) -> str:
    stem, dot, ending = place.uri.rpartition(".")
    return f"{stem}-{recipe_id[:8]}.{ending}" if dot and "/" not in ending else f"{place.uri}-{recipe_id[:8]}"


def _publish(mirror: Mirror, order: Sequence[str]) -> Catalog:
    """Create the next catalog: what the newest lists, then what is new; whoever is first wins, the others retry."""
    for _ in range(_ATTEMPTS):
        mirror.refresh()
        listed = mirror.catalog.parts if mirror.catalog.number else ()
        new = [part for part in order if part in mirror.sealed() and part not in listed]
        new += [part for part in mirror.sealed() if part not in listed and part not in new]
        parts = (*listed, *new)
        mirror.fetch_samples(parts)
        if mirror.catalog.number and not new:
            return mirror.catalog
        with mirror.named():
            root = parts_content_id(mirror.folder, parts)
        catalog = Catalog(mirror.catalog.number + 1, parts, root)
        value = {"parts": list(parts), "content_id": root}
        if mirror.remote.swap(f"catalog/{catalog.number}.json", pretty(value), None):
            mirror.catalog = catalog
            return catalog
    raise OutputError(f"other pushes took each of {_ATTEMPTS} catalog numbers at {mirror.uri}; run the command again")


def _differs(store: Path, part: str, mirror: Mirror) -> bool:
    """Return whether the values of a part there are others than ours; how they are packed does not count."""
    columns = ("id", "content")
    with mirror.named():
        return not read_samples(mirror.folder, part, columns).equals(read_samples(store, part, columns))


def n_samples(mirror: Mirror) -> int:
    """Return the number of distinct samples of the parts that count."""
    with mirror.named():
        return len({name for part in mirror.catalog.parts for name in read_samples(mirror.folder, part, ("id",))["id"]})
