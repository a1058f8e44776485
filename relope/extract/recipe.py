"""What decides the numbers in a store: its identity, its layers and the block kept beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

from relope.errors import InvalidInputError
from relope.extract.data import prompts
from relope.extract.data.dataset import DataSet
from relope.extract.data.dataset import check_splits as check_splits
from relope.extract.intake import additions, origin
from relope.extract.model.backbone import Backbone
from relope.extract.model.continuation import Extras
from relope.extract.model.generate import token_columns
from relope.extract.model.streams import block_tensors
from relope.provenance import versions, write_bytes, write_json
from relope.spec import ExtractSpec
from relope.store import StoreManifest, block_folder


def parse_layers(asked: Sequence[str], n_blocks: int, default: int) -> tuple[int, ...]:
    """Return block numbers from numbers and depth fractions.

    Args:
        asked: e.g. ``("23", "24")`` or ``("0.5",)``; empty = the default layer and the one before.
        n_blocks: decoder blocks of the model.
        default: the model's usual layer l.

    Raises:
        InvalidInputError: not a number, or outside 0…n_blocks.
    """
    if not asked:
        return (default - 1, default)
    layers = tuple(sorted({_layer(text, n_blocks) for text in asked}))
    if layers == (0,):
        raise InvalidInputError("--layers 0 keeps embeddings alone; add the block that is read, e.g. --layers 0,1")
    return layers


def _layer(text: str, n_blocks: int) -> int:
    allowed = f"give block numbers 0–{n_blocks} or a depth fraction between 0 and 1"
    try:
        number = round(float(text) * n_blocks) if "." in text else int(text)
    except ValueError as error:
        raise InvalidInputError(f"--layers {text!r} is no number; {allowed}") from error
    if not 0 <= number <= n_blocks:
        raise InvalidInputError(f"--layers {text} is out of range: the model has {n_blocks} blocks; {allowed}")
    return number


def make_manifest(backbone: Backbone, dataset: DataSet, spec: ExtractSpec) -> StoreManifest:
    """Return the manifest of the store that a specification describes."""
    layers = parse_layers(spec.layers, len(backbone.blocks), backbone.default_layer)
    stored = backbone.identity["compute_dtype"] if spec.store_dtype == "auto" else spec.store_dtype
    token_layers = layers if spec.tokens == "all" else layers[:-1] or layers
    identity = {
        **backbone.identity,
        **additions(spec),
        "dataset": dataset.identity,
        "prompts": prompts.VERSION,
        "text_only": spec.text_only,
        "generation": _generation(spec, answer_tokens(dataset, spec)),
        "layers": list(layers),
        "tokens": spec.tokens,
        "stored_dtype": stored,
        "format": 1,
    }
    recorded = {
        **backbone.recorded,
        "dataset": dataset.name,
        **origin(spec, dataset),
        "batch_size": spec.batch_size or backbone.card.batch_size,
        "versions": versions(),
    }
    return StoreManifest(
        identity=identity,
        layers=layers,
        hidden_size=backbone.hidden_size,
        dtype=stored,
        token_columns=token_columns(backbone),
        tokens=spec.tokens,
        token_layers=token_layers,
        recorded=recorded,
        grader=spec.grader or dataset.grader,
    )


def answer_tokens(dataset: DataSet, spec: ExtractSpec) -> int:
    """Return the most tokens of an answer: what was asked, else the data set's own; 0 = no answers.

    Raises:
        InvalidInputError: traces or p(True) are asked for without answers.
    """
    asked = dataset.max_new_tokens if spec.max_new_tokens is None else spec.max_new_tokens
    if not asked and (spec.samples or spec.p_true):
        raise InvalidInputError(
            "--max-new-tokens 0 gives no answers, which --samples and --p-true need; drop one of them"
        )
    return asked


def make_extras(spec: ExtractSpec) -> Extras:
    """Return what a specification asks besides the greedy answer."""
    return Extras(spec.samples, spec.temperature, spec.trace_tokens, spec.p_true, spec.seed)


def _generation(spec: ExtractSpec, n_tokens: int) -> dict[str, Any]:
    """Return how answers are made; what was not asked for is left out, so that a plain recipe keeps its id."""
    found: dict[str, Any] = {"greedy": True, "max_new_tokens": n_tokens}
    if spec.samples:
        found |= {name: getattr(spec, name) for name in ("samples", "temperature", "trace_tokens", "seed")}
    if spec.p_true:
        found["p_true"] = True
    return found


def save_block(backbone: Backbone, store: Path, layers: Sequence[int]) -> None:
    """Keep block l's weights in the store, so that ReLope needs no checkpoint.

    Nothing is written when layer l-1 is not stored, when the block is there already, when its weights
    are quantized, or when accelerate keeps them on the disk or the host for want of device memory.
    """
    layer = max(layers)
    folder = block_folder(store, layer)
    if layer - 1 not in layers or (folder / "replay.json").exists():
        return
    quantized = bool(backbone.identity.get("quantize")) or getattr(backbone.model, "is_quantized", False)
    if quantized or any(parameter.is_meta for parameter in backbone.blocks[layer - 1].parameters()):
        return
    write_bytes(folder / "block.safetensors", save_tensors(block_tensors(backbone, layer)))
    config = json.loads(backbone.model.config.to_json_string(use_diff=False))
    write_json(folder / "config.json", config)
    settings = {
        "class": type(backbone.model).__name__,
        "attention": backbone.identity["attention"],
        "layer": layer,
    }
    write_json(folder / "replay.json", settings)
