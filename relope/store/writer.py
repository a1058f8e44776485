"""Create a store, or go on with one of the same recipe."""

from collections.abc import Sequence
from pathlib import Path

from relope.errors import StoreError
from relope.partial import partial_folder
from relope.partial import sweep as sweep_beside
from relope.provenance import sync_folder, write_json
from relope.store.format import catalog, claims
from relope.store.format.catalog import Catalog
from relope.store.format.codec import check_codec
from relope.store.format.here import keep_here
from relope.store.format.layout import (
    GROUP,
    META,
    catalog_folder,
    is_sealed_part,
    part_id,
    parts_folder,
    sealed_parts,
    writing,
)
from relope.store.format.manifest import StoreManifest, manifest_document, read_manifest, recipe_changes
from relope.store.format.part import PartWriter
from relope.store.format.samples import read_part
from relope.store.format.shard import PLAIN, Encoding


class StoreWriter:
    """A store open for writing. Any number of processes may write parts of one store at once.

    Attributes:
        path: the store's folder.
        manifest: what is on disk: of an older run, when that one created the store.
        encoding: how new parts lie on disk; parts of one store may differ in it.
    """

    def __init__(self, path: Path, manifest: StoreManifest, encoding: Encoding = PLAIN) -> None:
        """Use `create_or_open` instead."""
        self.path = path
        self.manifest = manifest
        self.encoding = encoding
        self._ids: dict[str, tuple[str, ...]] = {}

    def part_id(self, sample_ids: Sequence[str]) -> str:
        """Return the id that a part of these samples, in this order, has."""
        return part_id(self.manifest.recipe_id, sample_ids)

    def part(self, sample_ids: Sequence[str]) -> PartWriter:
        """Return a context manager that writes the part of these samples, in this order."""
        return PartWriter(self.path, self.manifest, sample_ids, self.encoding)

    def sealed(self) -> list[str]:
        """Return the ids of the parts that are complete on disk, sorted."""
        return sealed_parts(self.path)

    def is_sealed(self, sample_ids: Sequence[str]) -> bool:
        """Tell whether the part of these samples, in this order, is complete on disk."""
        return is_sealed_part(self.path, self.part_id(sample_ids))

    def committed(self) -> set[str]:
        """Return the ids of all samples in sealed parts, published or not."""
        for part in self.sealed():
            if part not in self._ids:
                self._ids[part] = tuple(read_part(self.path, self.manifest.recipe_id, part, ("id",))["id"])
        return {sample for part in self.sealed() for sample in self._ids.get(part, ())}

    def sweep(self) -> int:
        """Remove what dead writers left behind; folders that are still locked stay.

        Returns:
            The number of folders removed.
        """
        return claims.sweep(self.path)

    def publish(self, order: Sequence[str] | None = None) -> Catalog:
        """List every sealed part in the next catalog; no new catalog when nothing has changed.

        Args:
            order: part ids, first to last, for those not listed yet; the rest follow, sorted.
        """
        return catalog.publish(self.path, order)


def check_output(path: Path) -> None:
    """Refuse a path at which something else than a store is.

    Raises:
        StoreError: a file, or a folder with other files in it.
    """
    if path.exists() and not (path / META).is_file() and not (path.is_dir() and not any(path.iterdir())):
        what = "is a folder with other files in it" if path.is_dir() else "is a file"
        raise StoreError(f"{path} {what}, not a store: nothing was written", hint="choose another --out")


def create_or_open(path: Path, manifest: StoreManifest, *, codec: str = "none", bfloat16: bool = False) -> StoreWriter:
    """Create a store, or open the one at the path if it has the same recipe.

    Args:
        path: the store's folder.
        manifest: what the store is.
        codec: of new parts: ``none``, or ``zstd``, which takes a third less and reads at a fifth of the speed.
        bfloat16: new parts call bfloat16 by its name, which zarr-python 3.1 does not know.

    Raises:
        InvalidInputError: the codec is not one of those.
        StoreError: the path holds another recipe (the differing fields are named) or no store.
        OutputError: the system refuses to write.
    """
    check_codec(codec)
    sweep_beside(path.resolve())
    with writing(path):
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            _create(path.resolve(), manifest)
    check_output(path)
    written = check_recipe(path, manifest)
    keep_here(path, manifest.recorded)
    return StoreWriter(path, written, Encoding(codec, bfloat16))


def _create(path: Path, manifest: StoreManifest) -> None:
    """Make the whole skeleton beside the path and rename it there, so that no one sees half of it."""
    with partial_folder(path) as partial:
        parts_folder(partial).mkdir(parents=True, exist_ok=True)
        catalog_folder(partial).mkdir(exist_ok=True)
        write_json(parts_folder(partial) / META, GROUP)
        keep_here(partial, manifest.recorded)
        write_json(partial / META, manifest_document(manifest))
        try:
            partial.rename(path)
        except OSError:
            if not (path / META).exists():  # unless another process has just created it
                raise
        sync_folder(path.parent)


def check_recipe(path: Path, new: StoreManifest) -> StoreManifest:
    """Return the manifest of a store that is there, where it has this recipe.

    Raises:
        StoreError: it has another (the differing fields are named).
    """
    old = read_manifest(path)
    if changes := recipe_changes(old, new):
        other = path.with_name(f"{path.stem}-{new.recipe_id[:8]}{path.suffix}")
        raise StoreError(f"{path} holds another recipe: {changes}", hint=f"use a new --out, e.g. {other}")
    return old
