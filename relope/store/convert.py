"""Write a store anew: with another codec, fewer layers, or fewer tokens."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.store.format.block import copy_block, has_block
from relope.store.format.catalog import Catalog
from relope.store.format.layout import grades_folder, plan_path, read_object, write_object
from relope.store.format.manifest import StoreManifest, no_layer, no_states
from relope.store.format.samples import read_samples
from relope.store.format.shard import Encoding
from relope.store.grade_files import add_grades, orders, read_grades_file
from relope.store.made import note_made, read_made
from relope.store.reader import ActivationStore
from relope.store.subset import packed_as, write_subset
from relope.store.writer import create_or_open
from relope.types import Progress, no_progress


def convert(
    source: Path,
    target: Path,
    *,
    codec: str | None = None,
    tokens: Literal["all", "lean"] | None = None,
    layers: Sequence[int] = (),
    bfloat16: bool = False,
    progress: Progress = no_progress,
) -> Catalog:
    """Write a store anew; what is already in the target is kept, so that the same call goes on.

    ``content_id`` stays when every layer and token does. Of fewer it is another content: the target
    then has the recipe that an extraction with these layers and tokens would have, and the manifest
    records what it is a subset of. Grades and the saved block are copied.

    Args:
        source: a store.
        target: where the new one goes.
        codec: ``none`` or ``zstd``; None keeps that of each part.
        tokens: ``lean`` keeps all tokens of all layers but the deepest, and the last tokens of that.
        layers: which layers to keep; all when empty.
        bfloat16: call bfloat16 by its name in the arrays' metadata.
        progress: told the number of samples done and in all.

    Raises:
        NotFoundError: no source, or it lacks a layer.
        InvalidInputError: source and target are one, or the source is not bfloat16.
        StoreError: the source is damaged, or the target holds another recipe.
        OutputError: the system refuses to write.
    """
    with ActivationStore.open(source) as store:
        if store.manifest.answers_only and (bfloat16 or tokens):
            raise no_states(store.label)
        manifest = _manifest(store, tokens, layers)
        if source.resolve() == target.resolve():
            raise InvalidInputError(f"{target} is the store that is read", hint="choose another --out")
        if bfloat16 and manifest.dtype != "bfloat16":
            raise InvalidInputError(f"{source} holds {manifest.dtype}, which bfloat16 metadata cannot name")
        total = sum(store.index.part_samples)  # refuses samples that are not their part's before anything is written
        writer = create_or_open(target, manifest, codec=codec or "none", bfloat16=bfloat16)
        writer.sweep()
        sealed, done, order = set(writer.sealed()), 0, []
        for part in store.parts:
            ids = read_samples(store.path, part, ("id",))["id"].to_list()
            order.append(writer.part_id(ids))
            if order[-1] not in sealed:
                encoding = Encoding(codec or packed_as(store.path, part, store.manifest), bfloat16)
                write_subset(store.path, part, target, writer.manifest, ids, encoding)
            done += len(ids)
            progress(done, total)
        catalog = writer.publish(order)
        if manifest.recipe_id == store.recipe_id and set(catalog.parts) == set(store.parts):
            _check_root(store, catalog, target)
        _copy_sidecars(source, target, manifest)
        return catalog


def _manifest(store: ActivationStore, tokens: Literal["all", "lean"] | None, layers: Sequence[int]) -> StoreManifest:
    """Return the manifest of the new store: the same one when nothing is left out."""
    old = store.manifest
    if missing := sorted(set(layers) - set(old.layers)):
        raise no_layer(missing[0], old, store.label, "choose --layers among these")
    kept = tuple(sorted(set(layers))) or old.layers
    selection = tokens or old.tokens
    if selection == "all" and old.tokens != "all":
        raise InvalidInputError(
            f"{store.label} is lean: it lacks tokens of layer {max(old.layers)}", hint="extract again"
        )
    whole = kept if selection == "all" else kept[:-1] or kept
    if missing := sorted(set(whole) - set(old.token_layers)):
        raise NotFoundError(
            f"{store.label} has only last tokens of layer {missing[0]}", hint="keep a shallower layer with it"
        )
    if (kept, selection, whole) == (old.layers, old.tokens, old.token_layers):
        return old
    return dataclasses.replace(
        old,
        identity=old.identity.with_fields(layers=list(kept), tokens=selection),
        layers=kept,
        tokens=selection,
        token_layers=whole,
        recorded={**old.recorded, "subset_of": {"recipe_id": store.recipe_id, "content_id": store.content_id}},
    )


def _check_root(store: ActivationStore, catalog: Catalog, target: Path) -> None:
    if catalog.content_id != store.content_id:
        raise StoreError(f"{target} ended with content {catalog.content_id[:12]}, not {store.content_id[:12]}: a bug")


def _copy_sidecars(source: Path, target: Path, manifest: StoreManifest) -> None:
    """Copy grades, the plan and the saved block, as far as the target's layers go."""
    if (plan := read_object(source, plan_path(source))) and not plan_path(target).exists():
        write_object(target, plan_path(target), plan)
    for name in orders(source):
        file = f"{grades_folder(target).name}/{name}.parquet"
        grades = read_grades_file(source, source / file)
        add_grades(target, file, grades, grades.table["id"].to_list())
    note_made(target, read_made(source))
    for layer in manifest.layers:
        if layer - 1 in manifest.layers and has_block(source, layer) and not has_block(target, layer):
            copy_block(source, target, layer)
