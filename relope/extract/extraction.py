"""What an extraction computes, resolved: nothing below the step reads a specification."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from relope.errors import InvalidInputError
from relope.extract.data.dataset import DataSet
from relope.extract.model.extras import Extras
from relope.extract.model.stops import read_stops
from relope.extract.shards import Shard
from relope.extract.view import View

if TYPE_CHECKING:  # a refusal must not wait for torch
    from relope.extract.batches import Batches
    from relope.extract.model.backbone import Backbone


@dataclass(frozen=True)
class ModelChoice:
    """Which model runs and how it is loaded; the attributes are those of `open_backbone`."""

    name: str
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "sdpa"
    spread: bool = False
    quantize: str | None = None
    chat_template: str = ""

    def open(self) -> "Backbone":
        """Load the model."""
        from relope.extract.model.backbone import open_backbone

        return open_backbone(
            self.name,
            self.device,
            self.dtype,
            self.attention,
            spread=self.spread,
            quantize=self.quantize,
            chat_template=self.chat_template,
        )

    def described(self, dtype: str) -> "Backbone":
        """Return it without weights and with its identity, for an engine that runs it in another process.

        Args:
            dtype: that the engine computes in; nothing here can tell what ``auto`` means there.
        """
        return self._without_weights("cpu", dtype, identified=True)

    def skeleton(self) -> "Backbone":
        """Return it without weights: enough to tell the cost, and the recipe but for digests of what it lacks."""
        return self._without_weights(self.device, self.dtype)

    def _without_weights(self, device: str, dtype: str, *, identified: bool = False) -> "Backbone":
        from relope.extract.model.backbone import open_skeleton

        return open_skeleton(
            self.name,
            device,
            dtype,
            self.chat_template,
            attention=self.attention,
            quantize=self.quantize,
            identified=identified,
        )


@dataclass(frozen=True)
class Extraction:
    """Everything that decides what a run computes, and which samples it is asked for.

    Attributes:
        model: that runs.
        dataset: opened, so that its identity is complete.
        splits: that are extracted.
        limit: at most so many samples of each; None = all.
        view: how they are shown.
        asked_layers: block numbers or depth fractions; empty = the model's usual layer and the one before.
        tokens: ``all`` or ``lean``, which keeps every token of the shallower layers only.
        max_new_tokens: longest answer; 0 = states only.
        stops: texts that end an answer.
        extras: what is asked besides the greedy answer.
        asked_dtype: stored dtype; ``auto`` = the one that is computed in.
        asked_batch_size: samples in one prefill; None = the model's own.
        grader: that judges the answers; None = what a store says, and at first the data set's.
        strict: stop at a sample that cannot be used.
        thumbnails: keep a small picture of every image that the model sees.
        shard: the share of the units that this process computes; None = all.
    """

    model: ModelChoice
    dataset: DataSet
    splits: tuple[str, ...]
    limit: int | None
    view: View
    asked_layers: tuple[str, ...]
    tokens: Literal["all", "lean"]
    max_new_tokens: int
    stops: tuple[str, ...]
    extras: Extras
    asked_dtype: str
    asked_batch_size: int | None
    grader: str | None
    strict: bool
    thumbnails: bool = True
    shard: Shard | None = None

    def layers(self, backbone: "Backbone") -> tuple[int, ...]:
        """Return the blocks whose output is kept of a model."""
        return parse_layers(self.asked_layers, len(backbone.blocks), backbone.default_layer)

    def stored_dtype(self, backbone: "Backbone") -> str:
        """Return the dtype that a model's states are stored in."""
        return backbone.compute_dtype if self.asked_dtype == "auto" else self.asked_dtype

    def batch_size(self, backbone: "Backbone") -> int:
        """Return how many samples a model prefills at once."""
        return self.asked_batch_size or backbone.card.batch_size

    def room(self, backbone: "Backbone") -> int:
        """Return the most tokens that may follow a prompt."""
        from relope.extract.model.generate import room_behind

        return room_behind(backbone, self.max_new_tokens, self.extras)

    def batches(self, backbone: "Backbone", halved: Callable[[Sequence[str]], None] = lambda ids: None) -> "Batches":
        """Return what answers batches of samples as this extraction asks; ``halved`` as in `Batches`."""
        from relope.extract.batches import Batches

        stored = self.stored_dtype(backbone)
        return Batches(
            backbone,
            self.layers(backbone),
            self.max_new_tokens,
            stored,
            self.extras,
            self.view.text_only,
            halved,
            stops=self.stops,
        )


def answer_tokens(dataset: DataSet, asked: int | None, extras: Extras) -> int:
    """Return the most tokens of an answer: what was asked, else the data set's own; 0 = no answers.

    Raises:
        InvalidInputError: traces or p(True) are asked for without answers.
    """
    n_tokens = dataset.max_new_tokens if asked is None else asked
    if not n_tokens and extras.any:
        raise InvalidInputError(
            "without answers (0 new tokens) there are no traces and no p(True)",
            hint="drop --max-new-tokens 0, or --samples and --p-true",
        )
    return n_tokens


def stop_texts(asked: Sequence[str], n_tokens: int) -> tuple[str, ...]:
    """Return the texts that end an answer of at most so many tokens.

    Raises:
        InvalidInputError: there are no answers to end, or a text is none that could be looked for.
    """
    if asked and not n_tokens:
        raise InvalidInputError(
            "without answers (0 new tokens) there is nothing to stop", hint="drop --max-new-tokens 0, or --stop"
        )
    return read_stops(asked)


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
        raise InvalidInputError(
            "layer 0 alone holds nothing but embeddings", hint="add the block that is read, e.g. --layers 0,1"
        )
    return layers


def _layer(text: str, n_blocks: int) -> int:
    hint = f"--layers takes block numbers 0–{n_blocks}, or depth fractions between 0 and 1"
    try:
        number = round(float(text) * n_blocks) if "." in text else int(text)
    except ValueError as error:
        raise InvalidInputError(f"layer {text!r} is no number", hint=hint) from error
    if not 0 <= number <= n_blocks:
        raise InvalidInputError(f"layer {text} is out of range: the model has {n_blocks} blocks", hint=hint)
    return number
