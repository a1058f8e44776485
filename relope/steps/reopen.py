"""The recorded backbone, block and data of a store, opened again for what a fit or a check needs of them."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError, NotFoundError, RelopeError

if TYPE_CHECKING:
    from relope.extract.data.dataset import DataSet
    from relope.extract.model.backbone import Backbone
    from relope.store import RowReader


def pick_layer(store: "RowReader", asked: int | None, needs: Callable[[int], Sequence[int]]) -> int:
    """Return the block l that is read: what was asked, else the store's deepest.

    Raises:
        NotFoundError: the store lacks a layer that the method needs there.
    """
    layer = asked or max(store.layers)
    for needed in needs(layer):
        if needed not in store.layers:
            has = ", ".join(str(number) for number in store.layers)
            wanted = ",".join(str(number) for number in needs(layer))
            raise NotFoundError(
                f"layer {needed} is not in {store.path} (has {has}); "
                f"extract again with --layers {wanted} into a new --out"
            )
    return layer


def device_here(asked: str) -> str:
    """Return the device that was asked for; under ``torchrun`` each process has a card of its own."""
    from relope.extract.model.load import pick_device

    if asked == "cpu":
        return asked
    place = pick_device(asked)
    if place.type == "cuda" and place.index is None and "LOCAL_RANK" in os.environ:
        place = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
    return str(place)


def ensure_block(store: "RowReader", probe: Any, layer: int) -> None:
    """Put block l's weights beside the store when a method needs them and they are not there.

    Raises:
        NotFoundError: the checkpoint cannot be opened either.
        InvalidInputError: it is another one than the store was made with.
    """
    if not getattr(probe, "replays", False) or (store.block_folder(layer) / "replay.json").is_file():
        return
    if store.manifest.identity.get("quantize"):
        return  # quantized blocks are not kept: the fit says so, and what to do
    from relope.extract.model.backbone import open_backbone
    from relope.extract.model.card import recorded_model
    from relope.extract.recipe import save_block

    if store.is_remote:
        return  # a store that is read where it is, is not written to: the fit says what is missing
    identity, model = store.manifest.identity, recorded_model(store.manifest.recorded)
    missing = f"{store.path} keeps no weights of block {layer}"
    try:
        backbone = open_backbone(model, "cpu", identity["compute_dtype"], identity["attention"])
    except RelopeError as error:
        raise NotFoundError(f"{missing}, and its model cannot be opened: {error}") from error
    if backbone.identity["model_files"] != identity["model_files"]:
        raise InvalidInputError(f"{missing}, and {model!r} is no longer the checkpoint that it was made with")
    save_block(backbone, store.path, (layer - 1, layer))


def open_streams(store: "RowReader", device: str = "auto") -> Any:
    """Open the backbone and the data that a store was made from, to stream samples through it."""
    from relope.extract.intake import load_for
    from relope.extract.model.backbone import open_backbone
    from relope.extract.model.card import recorded_model
    from relope.extract.model.streams import Streams

    identity, recorded = store.manifest.identity, store.manifest.recorded
    backbone: Backbone = open_backbone(
        recorded_model(recorded), device, identity["compute_dtype"], identity["attention"],
        spread=recorded.get("device") == "all", quantize=identity.get("quantize"),
    )  # fmt: skip
    splits = store.samples["split"].unique().to_list()
    samples = {sample.id: sample for sample in load_for(recorded, recorded_dataset(store), splits)}
    return Streams(backbone, samples, identity["text_only"])


def recorded_dataset(store: "RowReader") -> "DataSet":
    """Return the data set that a store was made from."""
    from relope.extract.data.open import open_dataset

    recorded = store.manifest.recorded
    return open_dataset(recorded.get("dataset_source", recorded["dataset"]))
