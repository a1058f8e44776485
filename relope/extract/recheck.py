"""Run samples of a store again and compare: is this what the model gives?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.flaws import check_unchanged
from relope.extract.model.generate import answer_batch, captures
from relope.extract.model.streams import Streams
from relope.store import ActivationStore, to_float32

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
"""Compute or stored dtype, whichever is coarser → largest relative difference ‖a − b‖ / ‖b‖ of a state.

A sample is run alone, and was extracted in a padded batch: in float32 that moves states by about
1e-6 of their size, in bfloat16 by up to 2 %.
"""


_MODEL = ("adapter_files", "chat_template", "pixels", "quantize")
"""What of a model is keyed only where it was asked for, so that its absence tells as much as another value."""


@dataclass(frozen=True)
class Recheck:
    """The largest relative difference of every layer.

    Attributes:
        samples: ids that were run again.
        worst: layer → largest difference of a token's state.
        tolerance: what is allowed.
        off: ids whose states differ by more.
    """

    samples: tuple[str, ...]
    worst: dict[int, float]
    tolerance: float
    off: tuple[str, ...]


def recheck(store: ActivationStore, streams: Streams, n_samples: int) -> Recheck:
    """Run samples again, evenly spread over the store, and compare the states of every layer.

    Args:
        store: the opened store.
        streams: the backbone and samples that it was made from.
        n_samples: how many.

    Raises:
        NotFoundError: the data set has none of the store's samples.
        InvalidInputError: the model's files, or the samples' questions, are not those that the store was made with.
    """
    _check_same_model(store, streams)
    manifest = store.manifest
    known = [row for row, name in enumerate(store.samples["id"]) if name in streams.samples]
    if not known:
        raise NotFoundError(f"none of the samples of {store.label} is in the data set now; nothing can be compared")
    spread = np.linspace(0, len(known) - 1, min(n_samples, len(known)))
    rows = sorted({known[round(index)] for index in spread})
    _check_same_questions(store, streams, rows)
    coarse = "bfloat16" if "bfloat16" in (manifest.dtype, manifest.identity.compute_dtype) else "float32"
    worst = dict.fromkeys(manifest.layers, 0.0)
    off, ids = [], store.samples["id"].to_list()
    for row in rows:
        inputs = streams.backbone.inputs([streams.samples[ids[row]]], streams.text_only)
        answered = answer_batch(streams.backbone, inputs, manifest.layers, 0, "float32")
        (capture,) = captures(answered, manifest.layers)
        for layer in manifest.layers:
            difference = _difference(store, layer, row, capture.hidden[layer])
            worst[layer] = max(worst[layer], difference)
            if difference > TOLERANCE[coarse] and ids[row] not in off:
                off.append(ids[row])
    return Recheck(tuple(ids[row] for row in rows), worst, TOLERANCE[coarse], tuple(off))


def _difference(store: ActivationStore, layer: int, row: int, computed: npt.NDArray[Any]) -> float:
    """Return the largest relative difference of a sample's states; infinite when their number differs."""
    rows = np.array([row])
    kept = torch.from_numpy(store.last(layer, rows))
    states = torch.from_numpy(computed)
    if layer in store.manifest.token_layers:
        (batch,) = store.batches(layer, rows, size=1)
        kept = torch.from_numpy(to_float32(batch.values, batch.dtype))
    else:
        states = states[-1:]
    if kept.shape != states.shape:
        return float("inf")
    off = (kept - states).norm(dim=-1) / states.norm(dim=-1).clamp(min=1e-6)
    return float(off.nan_to_num(float("inf")).max())


def _check_same_questions(store: ActivationStore, streams: Streams, rows: Sequence[int]) -> None:
    if "input" not in store.samples.columns:
        return
    asked = [streams.samples[name] for name in store.samples[list(rows)]["id"]]
    known = dict(store.samples[list(rows)].select("id", "input").iter_rows())
    check_unchanged(known, asked if streams.text_only else [replace(sample, caption="") for sample in asked])


def _check_same_model(store: ActivationStore, streams: Streams) -> None:
    identity, here = store.manifest.identity, streams.backbone.identity
    changed = [name for name in {*here, *_MODEL} if identity.get(name) != here.get(name)]
    if changed:
        raise InvalidInputError(
            f"{store.label} was made with another model: {', '.join(sorted(changed))} differ from those of "
            f"{streams.backbone.name} here",
            hint="restore that model to compare",
        )
