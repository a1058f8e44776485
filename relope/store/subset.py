"""Some layers or some samples of a store: a store of its own, with parts of its own where parts are cut."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from relope.errors import NotFoundError
from relope.store.format.arrays import ArrayReader, open_array, part_codec
from relope.store.format.codec import CODECS
from relope.store.format.manifest import StoreManifest, array_specs
from relope.store.format.part import PartWriter
from relope.store.format.samples import RESERVED, read_samples
from relope.store.format.shard import Encoding
from relope.types import Capture


def subset_manifest(
    manifest: StoreManifest, layers: Sequence[int], splits: Sequence[str], content: str, where: str
) -> StoreManifest:
    """Return the manifest of a subset.

    With fewer layers its recipe is the one that extracts just these; with fewer samples it is the same
    recipe, since which samples are in is coverage.

    Args:
        manifest: of the whole.
        layers: what to keep; empty keeps all.
        splits: what was asked for; only recorded.
        content: content_id of the whole.
        where: the whole, as errors name it.

    Raises:
        NotFoundError: a layer is not in the whole.
    """
    for layer in layers:
        if layer not in manifest.layers:
            has = ", ".join(map(str, manifest.layers))
            raise NotFoundError(f"layer {layer} is not in {where} (has {has}); choose among them with --layers")
    kept = tuple(sorted(set(layers))) or manifest.layers
    fewer = kept != manifest.layers
    if not fewer and not splits:
        return manifest
    origin = {"recipe_id": manifest.recipe_id, "content_id": content, "layers": list(kept), "splits": list(splits)}
    fields = {"layers": list(kept), "tokens": manifest.tokens}
    return dataclasses.replace(
        manifest,
        identity={**manifest.identity, **fields} if fewer else manifest.identity,
        layers=kept,
        token_layers=tuple(layer for layer in manifest.token_layers if layer in kept),
        recorded={**manifest.recorded, "subset_of": origin},
    )


def write_subset(source: Path, part: str, out: Path, manifest: StoreManifest, ids: Sequence[str]) -> None:
    """Write the part of some samples and of the layers of a manifest, from a part that holds them.

    Args:
        source: a store that has at least the arrays of the manifest.
        part: part id there.
        out: the store that is written.
        manifest: of ``out``.
        ids: samples to keep, in the order of the part.
    """
    table = read_samples(source, part)
    n_samples, n_tokens = len(table), int(table["n_tokens"].sum())
    arrays = {
        name: open_array(source, part, spec, n_tokens if spec.per_token else n_samples)
        for name, spec in array_specs(manifest).items()
    }
    wanted, codec = set(ids), part_codec(source, part, array_specs(manifest))
    encoding = Encoding(codec if codec in CODECS else "none")
    with PartWriter(out, manifest, ids, encoding) as writer:
        for local, row in enumerate(table.iter_rows(named=True)):
            if row["id"] in wanted:
                capture = _capture(manifest, arrays, local, row["first_token"], row["n_tokens"])
                writer.append([{key: value for key, value in row.items() if key not in RESERVED}], [capture])


def _capture(manifest: StoreManifest, arrays: dict[str, ArrayReader], local: int, first: int, n_tokens: int) -> Capture:
    specs = array_specs(manifest)

    def rows(name: str) -> npt.NDArray[Any]:
        per_token = specs[name].per_token
        out = np.empty((n_tokens if per_token else 1, specs[name].columns), specs[name].stored)
        arrays[name].read_into(first if per_token else local, out)
        return out

    def hidden() -> Iterator[tuple[int, npt.NDArray[Any]]]:
        for layer in manifest.layers:
            yield layer, rows(f"hidden/{layer}" if layer in manifest.token_layers else f"last/{layer}")

    return Capture(hidden=dict(hidden()), answer=rows("answer")[0], tokens=rows("tokens"))
