"""What decides the numbers in a store: its identity, its layers and the block kept beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

from relope.extract.data import prompts
from relope.extract.engine import Engine
from relope.extract.extraction import Extraction
from relope.extract.grading.own_grader import is_own
from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import token_columns
from relope.extract.model.streams import block_tensors
from relope.partial import alone
from relope.provenance import pretty, versions
from relope.store import Identity, StoreManifest, block_folder, has_block, is_sealed_block, without_origin, write_block


def make_manifest(backbone: Backbone, extraction: Extraction, engine: Engine) -> StoreManifest:
    """Return the manifest of the store that an opened engine makes by a model.

    Its identity is what a store is told apart by: with another key, or another value for what was never
    asked for, no store that was made before could grow any more.
    """
    dataset, view, layers = extraction.dataset, extraction.view, extraction.layers(backbone)
    stored = extraction.stored_dtype(backbone)
    identity = {
        **backbone.identity,
        **engine.identity,
        **view.identity,
        "dataset": dataset.identity,
        "prompts": prompts.VERSION,
        "text_only": view.text_only,
        "generation": _generation(extraction),
        "layers": list(layers),
        "tokens": extraction.tokens,
        "stored_dtype": stored,
        "format": 1,
    }
    recorded = {
        **backbone.recorded,
        **dataset.told,
        **view.recorded,
        "batch_size": extraction.batch_size(backbone),
        "versions": versions(),
        **engine.recorded,
    }
    return StoreManifest(
        identity=Identity(identity),
        layers=layers,
        hidden_size=backbone.hidden_size,
        dtype=stored,
        token_columns=token_columns(backbone),
        tokens=extraction.tokens,
        token_layers=layers if extraction.tokens == "all" else layers[:-1] or layers,
        recorded=recorded,
        grader=dataset.grader if extraction.grader is None or is_own(extraction.grader) else extraction.grader,
    )


def _generation(extraction: Extraction) -> dict[str, Any]:
    """Return how answers are made; what was not asked for is left out, so that a plain recipe keeps its id."""
    extras = extraction.extras
    settings: dict[str, Any] = {"greedy": True, "max_new_tokens": extraction.max_new_tokens}
    if extraction.stops:
        settings["stop"] = list(extraction.stops)
    if extras.samples:
        settings |= {
            "samples": extras.samples,
            "temperature": extras.temperature,
            "trace_tokens": extras.trace_tokens,
            "seed": extras.seed,
        }
    return settings | ({"p_true": True} if extras.p_true else {})


def save_block(backbone: Backbone, store: Path, layers: Sequence[int]) -> None:
    """Keep block l's weights in the store, so that ReLope needs no checkpoint.

    Nothing is written when layer l-1 is not stored, when the block is there already under its digests, when its
    weights are quantized, or when accelerate keeps them on the disk or the host for want of device memory.
    """
    layer = max(layers)
    if layer - 1 not in layers or (has_block(store, layer) and is_sealed_block(block_folder(store, layer))):
        return
    if backbone.traits.quantized or any(parameter.is_meta for parameter in backbone.blocks[layer - 1].parameters()):
        return
    with alone(store):  # workers that start at once have it written by one of them
        if not is_sealed_block(block_folder(store, layer)):
            write_block(store, layer, _block_files(backbone, layer))


def _block_files(backbone: Backbone, layer: int) -> dict[str, bytes]:
    config = json.loads(backbone.model.config.to_json_string(use_diff=False))
    settings = {
        "class": type(backbone.model).__name__,
        "attention": backbone.identity["attention"],
        "layer": layer,
    }
    return {
        "block.safetensors": save_tensors(block_tensors(backbone, layer)),
        "config.json": pretty(without_origin(config)),
        "replay.json": pretty(settings),
    }
