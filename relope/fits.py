"""What surrounds a fit: its state file, its processes, and the weights of block l."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.places import MIRRORS

if TYPE_CHECKING:
    from relope.store import RowReader


def state_file(out: Path, fingerprint: str) -> Path:
    """Return where the fit of a router keeps its state; another fit's state there is removed."""
    folder = out / ".unfinished"
    mine = folder / f"{fingerprint[:32]}.safetensors"
    for other in folder.glob("*") if folder.is_dir() else ():
        if other != mine:
            other.unlink(missing_ok=True)
    return mine


def remove_state(state: Path) -> None:
    """Delete the state of a fit that is finished."""
    shutil.rmtree(state.parent, ignore_errors=True)


def device_here(asked: str) -> str:
    """Return the device that was asked for; under ``torchrun`` each process has a card of its own."""
    from relope.extract.model.load import pick_device

    if asked == "cpu":
        return asked
    place = pick_device(asked)
    if place.type == "cuda" and place.index is None and "LOCAL_RANK" in os.environ:
        place = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
    return str(place)


def check_launch(streamed: bool) -> None:
    """Refuse ``torchrun`` for fits that it cannot share out.

    Raises:
        InvalidInputError: several processes, and no samples are streamed.
    """
    from relope.probes.parallel import launched

    if launched() > 1 and not streamed:
        raise InvalidInputError(
            f"torchrun started {launched()} processes, but a fit from the cache, or out of fold, runs in one; start it "
            "without torchrun, or stream with --mode truncated or full"
        )


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

    if str(store.path) in MIRRORS:
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
