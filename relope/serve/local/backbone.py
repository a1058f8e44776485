"""The small model that a bundle is for, opened and held against what the bundle says of it, with its router."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relope.errors import NotFoundError, RelopeError
from relope.extract.model.backbone import Backbone, open_backbone, open_skeleton
from relope.extract.model.card import open_card
from relope.probes.router import load_router
from relope.serve.bundle import PARTS, Bundle
from relope.serve.engine import EngineSettings
from relope.serve.local.prompt_batch import ServedModel
from relope.serve.local.scoring import Scorer
from relope.serve.local.writing import Decode


def open_served(bundle: Bundle, settings: EngineSettings, *, runs: bool = True) -> Backbone:
    """Open the model that a bundle is for.

    Args:
        bundle: which model, and how it computes.
        settings: where it is, and the device.
        runs: False opens what makes its prompts, without its weights: it runs elsewhere.

    Raises:
        NotFoundError: it is not here.
        InvalidInputError: it is another model, or prepares prompts otherwise; both sides are named.
    """
    name = settings.model or _found(bundle)
    try:
        backbone = _opened(name, bundle, settings, runs)
    except NotFoundError as error:
        if settings.model:
            raise
        raise NotFoundError(f"{error} (the bundle is for {bundle.source})", hint="say where it is: --model") from error
    bundle.check_backbone({**backbone.identity, PARTS: backbone.recorded.get(PARTS)}, name)
    return backbone


def _opened(name: str, bundle: Bundle, settings: EngineSettings, runs: bool) -> Backbone:
    how = bundle.backbone
    dtype = str(how["compute_dtype"])
    if not runs:
        return open_skeleton(name, "cpu", dtype, bundle.chat_template, identified=True)
    return open_backbone(
        name,
        settings.device,
        dtype,
        str(how.get("attention") or "sdpa"),
        quantize=how.get("quantize"),
        chat_template=bundle.chat_template,
    )


def _found(bundle: Bundle) -> str:
    """Return what to open the model by: the name that it was given, or where that is nothing here, its source."""
    try:
        open_card(bundle.model)
    except RelopeError:
        return bundle.source or bundle.model
    return bundle.model


def open_served_model(folder: Path, bundle: Bundle, settings: EngineSettings) -> ServedModel:
    """Open the model and the router of the bundle in a folder.

    Raises:
        RelopeError: as `open_served`, or the router cannot be served.
    """
    router = load_router(folder)
    backbone = open_served(bundle, settings)
    scorer = Scorer(router, bundle.layer, backbone)
    calibrated = bundle.calibration
    captions = bool(bundle.backbone.get("text_only"))
    return ServedModel(
        backbone, scorer, lambda score: float(calibrated(np.array([score]))[0]), decoder(backbone), not captions
    )


def decoder(backbone: Backbone) -> Decode:
    """Return what makes text of tokens by a tokenizer of its own: one that makes prompts meanwhile cannot."""
    tokenizer = copy.deepcopy(backbone.tokenizer)

    def decode(ids: Sequence[int]) -> str:
        return tokenizer.decode(list(ids), skip_special_tokens=True)

    return decode
