"""Write a store anew: with another codec, fewer layers, or fewer tokens."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.provenance import write_bytes
from relope.store.format.arrays import open_array, part_codec
from relope.store.format.catalog import Catalog
from relope.store.format.codec import CODECS
from relope.store.format.layout import block_folder, plan_path, temporary_beside, writing
from relope.store.format.manifest import StoreManifest, array_specs
from relope.store.format.part import PartWriter
from relope.store.format.samples import OURS, read_samples
from relope.store.format.shard import Encoding
from relope.store.reader import ActivationStore
from relope.store.writer import create_or_open
from relope.types import Capture, Progress, no_progress


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
    then has the recipe that `relope extract` with these layers and tokens would have, and the manifest
    records what it is a subset of. Verdicts and the saved block are copied.

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
        manifest = _manifest(store, tokens, layers)
        if source.resolve() == target.resolve():
            raise InvalidInputError(f"{target} is the store that is read; choose another --out")
        if bfloat16 and manifest.dtype != "bfloat16":
            raise InvalidInputError(f"{source} holds {manifest.dtype}, so that --dtype bfloat16-metadata means nothing")
        writer = create_or_open(target, manifest, codec=codec or "none", bfloat16=bfloat16)
        writer.sweep()
        sealed, done, order = set(writer.sealed()), 0, []
        for part in store.parts:
            samples = read_samples(store.path, part)
            encoding = Encoding(codec or _codec(store, part), bfloat16)
            new = PartWriter(target, writer.manifest, samples["id"].to_list(), encoding)
            order.append(new.id)
            if new.id not in sealed:
                with new:
                    _copy(store, part, samples.to_dicts(), new, manifest)
            done += len(samples)
            progress(done, sum(store.index.part_samples))
        catalog = writer.publish(order)
        if manifest.recipe_id == store.recipe_id and set(catalog.parts) == set(store.parts):
            _check_root(store, catalog, target)
        _copy_companions(source, target, manifest)
        return catalog


def _manifest(store: ActivationStore, tokens: Literal["all", "lean"] | None, layers: Sequence[int]) -> StoreManifest:
    """Return the manifest of the new store: the same one when nothing is left out."""
    old = store.manifest
    if missing := sorted(set(layers) - set(old.layers)):
        has = ", ".join(map(str, old.layers))
        raise NotFoundError(f"layer {missing[0]} is not in {store.path} (has {has}); choose --layers among these")
    kept = tuple(sorted(set(layers))) or old.layers
    selection = tokens or old.tokens
    if selection == "all" and old.tokens != "all":
        raise InvalidInputError(f"{store.path} is lean: it lacks tokens of layer {max(old.layers)}; extract again")
    whole = kept if selection == "all" else kept[:-1] or kept
    if missing := sorted(set(whole) - set(old.token_layers)):
        raise NotFoundError(f"{store.path} has only last tokens of layer {missing[0]}; keep a shallower layer with it")
    if (kept, selection, whole) == (old.layers, old.tokens, old.token_layers):
        return old
    recorded = {**old.recorded, "subset_of": {"recipe_id": store.recipe_id, "content_id": store.content_id}}
    identity = {**old.identity, "layers": list(kept), "tokens": selection}
    return dataclasses.replace(
        old, identity=identity, layers=kept, tokens=selection, token_layers=whole, recorded=recorded
    )


def _copy(
    store: ActivationStore, part: str, rows: Sequence[dict[str, Any]], new: PartWriter, manifest: StoreManifest
) -> None:
    """Stream one part, a sample at a time.

    Raises:
        StoreError: a sample's rows are not the ones that were written.
    """
    n_tokens, specs = sum(row["n_tokens"] for row in rows), array_specs(store.manifest)
    wanted = array_specs(manifest)
    counts = {name: n_tokens if spec.per_token else len(rows) for name, spec in specs.items() if name in wanted}
    arrays = {name: open_array(store.path, part, specs[name], count) for name, count in counts.items()}
    for place, row in enumerate(rows):
        values = {}
        for name, array in arrays.items():
            spec = specs[name]
            shape = (row["n_tokens"] if spec.per_token else 1, spec.columns)
            values[name] = np.empty(shape, spec.stored)
            array.read_into(row["first_token"] if spec.per_token else place, values[name])
        hidden = {layer: values.get(f"hidden/{layer}", values[f"last/{layer}"]) for layer in manifest.layers}
        capture = Capture(hidden, values["answer"][0], values["tokens"])
        new.append([{name: value for name, value in row.items() if name not in OURS}], [capture])
        if manifest.recipe_id == store.recipe_id and new.contents[-1] != row["content"]:
            raise StoreError(
                f"part {part} of {store.path} is damaged: the rows of sample {row['id']!r} are not what was written\n"
                "run `relope store verify --deep` on it; nothing of this part was converted"
            )


def _codec(store: ActivationStore, part: str) -> str:
    codec = part_codec(store.path, part, array_specs(store.manifest))
    return codec if codec in CODECS else "none"


def _check_root(store: ActivationStore, catalog: Catalog, target: Path) -> None:
    if catalog.content_id != store.content_id:
        raise StoreError(f"{target} ended with content {catalog.content_id[:12]}, not {store.content_id[:12]}: a bug")


def _copy_companions(source: Path, target: Path, manifest: StoreManifest) -> None:
    """Copy verdicts, the plan and the saved block, as far as the target's layers go."""
    if (plan := plan_path(source)).is_file() and not plan_path(target).exists():
        write_bytes(plan_path(target), plan.read_bytes())
    for verdicts in sorted((source / "grades").glob("*.parquet")):
        write_bytes(target / "grades" / verdicts.name, verdicts.read_bytes())
    for layer in manifest.layers:
        folder = block_folder(target, layer)
        if layer - 1 in manifest.layers and block_folder(source, layer).is_dir() and not folder.exists():
            partial = temporary_beside(folder)
            with writing(folder):
                shutil.copytree(block_folder(source, layer), partial)
                partial.rename(folder)
