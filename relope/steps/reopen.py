"""The recorded backbone, block and data of a store, opened again for what a fit or a check needs of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.probes.protocol import Probe, block_use
from relope.store import ActivationStore, has_block, no_states
from relope.types import Sample

if TYPE_CHECKING:
    from relope.extract.data.dataset import DataSet
    from relope.extract.extraction import ModelChoice
    from relope.extract.model.streams import Streams
    from relope.store import RowReader


def device_here(asked: str) -> str:
    """Return the device that was asked for; under ``torchrun`` each process has a card of its own."""
    from relope.extract.model.devices import check_device

    check_device(asked)
    if asked == "cpu":
        return asked

    from relope.extract.model.load import pick_device

    return str(pick_device(asked))


def open_block(store: "RowReader", asked: Sequence[tuple[Probe, int]], device: str) -> "Streams | None":
    """Make ready what methods run block l with: its weights beside the store, or the running backbone.

    Args:
        store: what is learned from, or scored.
        asked: each method, with its l.
        device: where the backbone runs.

    Returns:
        The backbone with the store's samples where one of the methods streams, else None.

    Raises:
        InvalidInputError: several stores cannot be streamed, or the checkpoint is another one than it was.
        NotFoundError: the checkpoint cannot be opened.
    """
    for probe, layer in asked:
        if block_use(probe) == "replayed":
            _ensure_block(store, layer)
    streaming = [probe.name for probe, _ in asked if block_use(probe) == "streamed"]
    if streaming and not isinstance(store, ActivationStore):
        raise InvalidInputError(
            f"{streaming[0]} streams the samples of one store, not of several",
            hint="drop --also, or use --set mode=cached",
        )
    return open_streams(store, device) if streaming else None


def _ensure_block(store: "RowReader", layer: int) -> None:
    """Put block l's weights beside the store when they are not there.

    Raises:
        NotFoundError: the checkpoint cannot be opened either.
        InvalidInputError: it is another one than the store was made with.
    """
    if has_block(store.block_folder(layer).parent, layer):
        return
    # The fit says what is missing, and what to do, where quantized blocks are not kept or a store is not ours to write.
    if store.manifest.identity.quantize or store.is_remote:
        return
    from relope.extract.recipe import save_block

    missing = f"{store.label} keeps no weights of block {layer}"
    choice = replace(recorded_choice(store, "cpu"), spread=False)
    try:
        backbone = choice.open()
    except RelopeError as error:
        raise NotFoundError(f"{missing}, and its model cannot be opened: {error}", hint=error.hint) from error
    kept = store.manifest.identity
    if any(backbone.identity.get(name) != kept.get(name) for name in ("model_files", "adapter_files")):
        raise InvalidInputError(f"{missing}, and {choice.name!r} is no longer the checkpoint that it was made with")
    save_block(backbone, store.path, (layer - 1, layer))


def open_streams(store: "RowReader", device: str = "auto") -> "Streams":
    """Open the backbone and the data that a store was made from, to stream samples through it."""
    from relope.extract.model.streams import Streams

    backbone = recorded_choice(store, device).open()
    samples = recorded_samples(store, store.samples["split"].unique().to_list())
    return Streams(backbone, {sample.id: sample for sample in samples}, store.manifest.identity.text_only)


def recorded_choice(store: "RowReader", device: str) -> "ModelChoice":
    """Return the model that a store was made with, to be loaded as it was then."""
    from relope.extract.extraction import ModelChoice
    from relope.extract.model.card import recorded_model

    if store.manifest.answers_only:
        raise no_states(store.label, "model that runs here")
    identity, recorded = store.manifest.identity, store.manifest.recorded
    return ModelChoice(
        recorded_model(recorded),
        device,
        identity.compute_dtype,
        identity.attention,
        spread=recorded.get("device") == "all",
        quantize=identity.quantize or None,
        chat_template=str(recorded.get("chat_template") or ""),
    )


def recorded_samples(store: "RowReader", splits: Sequence[str], *, changed: bool = False) -> list[Sample]:
    """Return the samples that a store was made from, as the model saw them.

    Args:
        store: the opened store.
        splits: of the data set.
        changed: also return those that are not as the model saw them any more, for who looks at each digest.

    Raises:
        InvalidInputError: a question, an answer or an image of the data set is another one now.
    """
    from relope.extract.data.flaws import check_unchanged
    from relope.extract.view import recorded_view

    manifest, dataset = store.manifest, recorded_dataset(store)
    view = recorded_view(manifest.recorded, manifest.identity.text_only)
    shown = view.worded(sample for split in splits for sample in dataset.load(split, None))
    if not changed and "input" in store.samples.columns:
        check_unchanged(dict(store.samples.select("id", "input").iter_rows()), shown)
    return view.perturbed(shown)


def recorded_dataset(store: "RowReader") -> "DataSet":
    """Return the data set that a store was made from."""
    from relope.extract.data.open import open_dataset

    recorded = store.manifest.recorded
    source, outside = str(recorded.get("dataset_source", "")), recorded.get("allow_outside") is True
    if Path(source).is_absolute():  # a name alone comes from a store that was shared: its data set is elsewhere
        return open_dataset(source, recorded["dataset"], recorded.get("answer_is"), allow_outside=outside)
    return open_dataset(recorded["dataset"])
