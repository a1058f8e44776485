"""Some layers or some samples of a store: a store of its own, with parts of its own where parts are cut."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from relope.errors import StoreError
from relope.store.format.arrays import open_array, part_codec, read_sample
from relope.store.format.codec import CODECS
from relope.store.format.layout import part_id
from relope.store.format.manifest import StoreManifest, array_specs, no_layer
from relope.store.format.part import PartWriter
from relope.store.format.samples import RESERVED, read_samples
from relope.store.format.shard import Encoding
from relope.store.format.thumbnails import read_thumbnails
from relope.types import Capture


def subset_manifest(
    manifest: StoreManifest, layers: Sequence[int], splits: Sequence[str], content: str, label: str
) -> StoreManifest:
    """Return the manifest of a subset.

    With fewer layers its recipe is the one that extracts just these; with fewer samples it is the same
    recipe, since which samples are in is coverage.

    Args:
        manifest: of the whole.
        layers: what to keep; empty keeps all.
        splits: what was asked for; only recorded.
        content: content_id of the whole.
        label: the whole, as errors name it.

    Raises:
        NotFoundError: a layer is not in the whole.
    """
    for layer in layers:
        if layer not in manifest.layers:
            raise no_layer(layer, manifest, label, "choose among them with --layers")
    kept = tuple(sorted(set(layers))) or manifest.layers
    fewer = kept != manifest.layers
    if not fewer and not splits:
        return manifest
    identity = manifest.identity
    origin = {"recipe_id": manifest.recipe_id, "content_id": content, "layers": list(kept), "splits": list(splits)}
    return dataclasses.replace(
        manifest,
        identity=identity.with_fields(layers=list(kept), tokens=manifest.tokens) if fewer else identity,
        layers=kept,
        token_layers=tuple(layer for layer in manifest.token_layers if layer in kept),
        recorded={**manifest.recorded, "subset_of": origin},
    )


def packed_as(source: Path, part: str, manifest: StoreManifest) -> str:
    """Return the codec that a part is packed with; ``none`` when another tool wrote it."""
    codec = part_codec(source, part, array_specs(manifest))
    return codec if codec in CODECS else "none"


def write_subset(
    source: Path,
    part: str,
    out: Path,
    manifest: StoreManifest,
    ids: Sequence[str],
    encoding: Encoding | None = None,
) -> None:
    """Write the part of some samples and of the layers of a manifest, from a part that holds them.

    Args:
        source: a store that has at least the arrays of the manifest.
        part: part id in ``source``.
        out: the store that is written.
        manifest: of ``out``.
        ids: samples to keep, in the order of the part.
        encoding: how the new part lies on disk; None packs it as the old one is.

    Raises:
        StoreError: a sample's rows are not what was written.
    """
    table, specs = read_samples(source, part), array_specs(manifest)
    n_samples, n_tokens = len(table), int(table["n_tokens"].sum())
    arrays = {
        name: open_array(source, part, spec, n_tokens if spec.per_token else n_samples) for name, spec in specs.items()
    }
    pictures = read_thumbnails(source, part)
    same_recipe, wanted = part_id(manifest.recipe_id, table["id"].to_list()) == part, set(ids)
    with PartWriter(out, manifest, ids, encoding or Encoding(packed_as(source, part, manifest))) as writer:
        for local, row in enumerate(table.iter_rows(named=True)):
            if row["id"] not in wanted:
                continue
            span = local, row["first_token"], row["n_tokens"]
            rows = {name: read_sample(array, specs[name], *span) for name, array in arrays.items()}
            columns = {name: value for name, value in row.items() if name not in RESERVED}
            shown = {name: pictures[name] for name in row.get("image_digests") or () if name in pictures}
            captures = None if manifest.answers_only else [_capture(rows, manifest.layers)]
            writer.append([columns], captures, shown)
            if same_recipe and writer.contents[-1] != row["content"]:
                raise StoreError(
                    f"part {part} of {source} is damaged: the rows of sample {row['id']!r} are not what was written",
                    hint="run `relope store verify --deep` on it; nothing of this part was copied",
                )


def _capture(rows: Mapping[str, npt.NDArray[Any]], layers: Sequence[int]) -> Capture:
    """Return the capture that the rows of a sample came from; of a layer without every token, the last one alone."""
    hidden = {layer: rows.get(f"hidden/{layer}", rows[f"last/{layer}"]) for layer in layers}
    return Capture(hidden, rows["answer"][0], rows["tokens"])
