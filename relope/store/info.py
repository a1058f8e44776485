"""What a store holds, in numbers."""

import os
from pathlib import Path
from typing import Any

from relope.store.layout import part_folder
from relope.store.manifest import array_specs
from relope.store.reader import ActivationStore

IMAGE, TEXT = 1, 0
"""Values of the token column ``kind``."""


def info(store: ActivationStore) -> dict[str, Any]:
    """Return JSON values that describe a store.

    ``samples`` counts by split, ``tokens`` by kind (image, text; absent when the store has no
    column ``kind``) and ``bytes`` on disk by layer, ``other`` being all that is no layer's.
    """
    manifest = store.manifest
    return {
        "path": str(store.path),
        "format_version": manifest.format_version,
        "recipe_id": store.recipe_id,
        "content_id": store.content_id,
        "identity": manifest.identity,
        "recorded": manifest.recorded,
        "grader": manifest.grader,
        "layers": list(manifest.layers),
        "token_layers": list(manifest.token_layers),
        "hidden_size": manifest.hidden_size,
        "dtype": manifest.dtype,
        "token_selection": manifest.tokens,
        "parts": len(store.parts),
        "n_samples": len(store),
        "samples": _split_counts(store),
        "excluded": len(store.excluded),
        "tokens": _token_counts(store),
        "bytes": _byte_counts(store),
    }


def _split_counts(store: ActivationStore) -> dict[str, int]:
    if "split" not in store.samples.columns:
        return {}
    counts = store.samples["split"].cast(str).fill_null("").value_counts().sort("split")
    return dict(zip(counts["split"].to_list(), counts["count"].to_list(), strict=True))


def _token_counts(store: ActivationStore) -> dict[str, int]:
    counts = {"total": int(store.index.n_tokens.sum())}
    if "kind" not in store.manifest.token_columns:
        return counts
    column = store.manifest.token_columns.index("kind")
    counts |= {"image": 0, "text": 0}
    for number in range(len(store.parts)):
        values, _ = store.token_batch((store.index.part == number).nonzero()[0])
        counts["image"] += int((values[:, column] == IMAGE).sum())
        counts["text"] += int((values[:, column] == TEXT).sum())
    return counts


def _byte_counts(store: ActivationStore) -> dict[str, Any]:
    layers = {layer: 0 for layer in store.layers}
    for part in store.parts:
        for name in array_specs(store.manifest):
            kind, _, layer = name.partition("/")
            if kind in ("hidden", "last"):
                layers[int(layer)] += _folder_bytes(part_folder(store.path, part) / name)
    total = _folder_bytes(store.path)
    return {
        "layers": {str(layer): size for layer, size in layers.items()},
        "other": total - sum(layers.values()),
        "total": total,
    }


def _folder_bytes(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(
            _folder_bytes(Path(entry))
            if entry.is_dir(follow_symlinks=False)
            else entry.stat(follow_symlinks=False).st_size
            for entry in entries
        )
