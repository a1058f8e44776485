"""An opened model with its processor: questions in, model inputs and modules out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from relope.errors import InvalidInputError, UnsupportedError
from relope.extract.data.turns import Turn, asked_turns
from relope.extract.model.card import Card, open_card
from relope.extract.model.chat import Chat
from relope.extract.model.checkpoint import Checkpoint, find_checkpoint, known_adapters
from relope.extract.model.control import Controls, controls_of, faults
from relope.extract.model.interfaces import Decoder, Model, Processor, Tokenizer
from relope.extract.model.load import Loading, check_quantize, load, pick_device, pick_dtype
from relope.extract.model.traits import Traits, image_processor_name, tokenizer_of, traits_of
from relope.provenance import digest
from relope.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

_decoders = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "relope-decode")
"""Pillow decodes without the interpreter's lock; a batch's images are decoded side by side."""


@dataclass(frozen=True)
class Backbone:
    """A frozen model, ready to answer.

    Attributes:
        name: what the user called it.
        model: the transformers model in eval mode.
        processor: its processor (or tokenizer, for a text-only model).
        traits: what it can do.
        card: where it came from.
        compute_dtype: ``float32`` or ``bfloat16``.
        identity: everything that keys a store's recipe.
        recorded: what is worth knowing but does not key it.
    """

    name: str
    model: Model
    processor: Processor
    traits: Traits
    card: Card
    compute_dtype: str
    identity: dict[str, Any]
    recorded: dict[str, Any]

    @property
    def decoder(self) -> Decoder:
        """The text decoder."""
        return self.model.get_decoder()  # type: ignore[no-any-return]

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks; block l is ``blocks[l - 1]``."""
        return self.decoder.layers

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        return self.model.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights."""
        return self.model.dtype  # type: ignore[no-any-return]

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer within the processor, or the processor itself."""
        return tokenizer_of(self.processor)

    @cached_property
    def chat(self) -> Chat:
        """Its chat template."""
        return Chat(self.name, self.processor, self.traits.sees_images, self.traits.image_token)

    @cached_property
    def controls(self) -> Controls:
        """What no text of a sample may hold."""
        return controls_of(self.tokenizer, self.chat, self.traits.media_tokens)

    @property
    def default_layer(self) -> int:
        """The block that probes read when none is named."""
        return self.card.layer or max(1, len(self.blocks) // 2)

    def inputs(self, samples: Sequence[Sample], text_only: bool = False) -> dict[str, Tensor]:
        """Build the left-padded batch of a few samples, on the CPU.

        Raises:
            UnsupportedError: the samples have images that the model cannot see, or the processor
                gives no token types to a class that masks by them.
            InvalidInputError: an image cannot be opened, or the prompt is too long.
        """
        texts, decoding = [], []
        for sample in samples:
            texts.append(self.chat.render(self.turns(sample, text_only)))
            n_images = 0 if text_only else len(sample.images)
            decoding.append([_decoders.submit(_open, sample, index) for index in range(n_images)])
        images = [[decoded.result() for decoded in row] for row in decoding]
        return self._checked(self.encoded(texts, images), samples)

    def encoded(self, texts: Sequence[str], images: "Sequence[Sequence[Image]]") -> dict[str, Tensor]:
        """Return the left-padded batch of prompts as the chat template writes them, on the CPU.

        Args:
            texts: the prompts.
            images: decoded RGB images of each, in their order.

        Raises:
            UnsupportedError: the processor gives no token types to a class that masks by them.
        """
        given = {"images": list(images)} if any(images) else {}
        batch = self.processor(
            text=texts,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            add_special_tokens=not self._begun(texts),
            **given,
        )
        if given:
            self._check_types(batch)
        return dict(batch)

    def folded(self, sample: Sample, text_only: bool = False) -> list[int]:
        """Return the tokens of a sample's prompt as its text has them: the processor has not unfolded its images.

        Raises:
            as ``inputs``.
        """
        return self.folded_text(self.chat.render(self.turns(sample, text_only)))

    def folded_text(self, text: str) -> list[int]:
        """Return the tokens of a prompt as its text has them."""
        return list(self.tokenizer(text, add_special_tokens=not self._begun([text]))["input_ids"])

    def positions(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return ``[R, B, T]`` position ids that the decoder gets in ``generate()``, also of a model without weights.

        R is 4 with multimodal rotary embeddings, else 1.
        """
        # What generate() itself calls: transformers 5.16 to 5.24, generation/utils.py and the class's own.
        made: Tensor = self.model._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
        return made if made.ndim == 3 else made[None]

    def turns(self, sample: Sample, text_only: bool = False) -> list[Turn]:
        """Return the conversation that a sample is put to the model as.

        Raises:
            UnsupportedError: the sample has images that the model cannot see.
            InvalidInputError: it has no caption to stand in for them.
        """
        n_images = 0 if text_only else len(sample.images)
        if n_images and not self.traits.sees_images:
            raise UnsupportedError(
                f"model {self.name} is text-only but the samples have images",
                hint="add --text-only to put captions in their place",
            )
        return self.chat.turns(asked_turns(sample, text_only), n_images)

    def faults(self, samples: Sequence[Sample], text_only: bool = False) -> Iterator[str]:
        """Yield for each sample why its conversation cannot be put to the model, or ``""``."""
        return self.turn_faults([self.turns(sample, text_only) for sample in samples])

    def turn_faults(self, asked: Sequence[Sequence[Turn]]) -> Iterator[str]:
        """Yield for each conversation why it cannot be put to the model, or ``""``."""
        return faults(self.tokenizer, self.chat, self.controls, asked)

    def to_device(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch's inputs on the model's device, images in its dtype."""
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}
        return {name: tensor.to(self.dtype) if tensor.is_floating_point() else tensor for name, tensor in moved.items()}

    def _begun(self, texts: Sequence[str]) -> bool:
        """Return whether the chat template wrote the token that begins a text, which must not stand there twice."""
        begin = self.tokenizer.bos_token
        return bool(begin) and all(text.startswith(str(begin)) for text in texts)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a piece of a prompt."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, control tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def follow_up(self, question: str) -> str:
        """Return the text between the model's own answer and its next one, when it is asked a question.

        Raises:
            UnsupportedError: the chat template does not show an answer as it is.
        """
        answer = "0123456789"
        turns = [("user", "?"), ("assistant", answer), ("user", question)]
        rendered = self.chat.render([(role, [text]) for role, text in turns])
        _, shown, after = rendered.rpartition(answer)
        if not shown or question.strip() not in after:
            raise UnsupportedError(f"the chat template of {self.name} shows no earlier turns", hint="drop --p-true")
        return after

    def _check_types(self, batch: Mapping[str, Tensor]) -> None:
        """Refuse images without the token types by which the model's mask or positions are made."""
        known = self.traits.type_inputs
        if known and not any(name in batch and bool(batch[name].any()) for name in known):
            raise UnsupportedError(
                f"the processor of {self.name} gives no {known[0]}, without which {type(self.model).__name__} would "
                "read images wrongly; install torchvision, or a release of transformers that suits the checkpoint"
            )

    def _checked(self, batch: dict[str, Tensor], samples: Sequence[Sample]) -> dict[str, Tensor]:
        limit, longest = self.traits.context, batch["input_ids"].shape[1]
        if limit and longest > limit:
            raise InvalidInputError(
                f"a prompt of {longest} tokens is longer than the {limit} of {self.name}; shorten the question or use "
                f"smaller images (the batch begins with sample {samples[0].id!r})"
            )
        return batch


def _open(sample: Sample, index: int) -> "Image":
    try:
        return sample.images[index].open().convert("RGB")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"image {index + 1} of sample {sample.id!r} cannot be opened: {error}") from error


def open_backbone(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "sdpa",
    *,
    spread: bool = False,
    quantize: str | None = None,
    chat_template: str = "",
) -> Backbone:
    """Load a model by CLI name, folder or hub id; remote code is never run.

    Args:
        name: what the user calls it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.
        dtype: ``auto``, ``float32`` or ``bfloat16``.
        attention: attention implementation.
        spread: put the blocks on all devices there are.
        quantize: ``4bit`` or ``8bit`` weights.
        chat_template: text of the one that takes the place of the model's own; ``""`` = that.

    Raises:
        NotFoundError: unknown name, or the hub cannot be reached.
        UnsupportedError: a class whose states would be captured wrongly.
        InvalidInputError: an unknown device or dtype, or a quantization that cannot work here.
    """
    card = open_card(name)
    target = pick_device(device)
    how = Loading(target, pick_dtype(dtype, target), attention, spread, quantize or "", chat_template=chat_template)
    check_quantize(how, known_adapters(card))  # before anything is fetched
    files = find_checkpoint(card)
    how = replace(how, pixels=files.card.pixels)
    model, processor = load(name, files, how)
    recorded = {**_recorded(name, card, files, how, model), "device": "all" if spread else str(target)}
    identity, traits = _identity(files, how, processor), traits_of(model, processor)
    return Backbone(name, model, processor, traits, files.card, how.dtype_name, identity, recorded)


def _named(name: str, card: Card, files: Checkpoint) -> dict[str, Any]:
    """Return what a model was called and where it was found."""
    return {
        "model": name,
        "source": card.source,
        "revision": files.revision,
        **({"base": files.base} if files.base else {}),
    }


def _recorded(name: str, card: Card, files: Checkpoint, how: Loading, model: Model) -> dict[str, Any]:
    """Return what is worth knowing of a model, but for where it runs."""
    return {
        **_named(name, card, files),
        **({"chat_template": how.chat_template} if how.chat_template else {}),
        "class": type(model).__name__,
        "processor": files.processor_parts,
    }


def _identity(files: Checkpoint, how: Loading, processor: Processor) -> dict[str, Any]:
    """Return what of a model keys a recipe; what was not asked for is left out, so that a plain recipe keeps its id."""
    identity = {"model_files": files.model_files, **_prepared(files, how, processor)}
    if files.adapters:
        identity["adapter_files"] = files.adapter_files
    return identity


def _prepared(files: Checkpoint, how: Loading, processor: Processor) -> dict[str, Any]:
    """Return what of an identity no weights are read for."""
    identity: dict[str, Any] = {
        "processor_files": files.processor_files,
        "image_processor": image_processor_name(processor),
        "compute_dtype": how.dtype_name,
        "attention": how.attention,
    }
    if how.pixels:
        identity["pixels"] = list(how.pixels)
    if how.quantize:
        identity["quantize"] = how.quantize
    if how.chat_template:
        identity["chat_template"] = digest(how.chat_template)
    return identity


def open_skeleton(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    chat_template: str = "",
    *,
    attention: str = "sdpa",
    quantize: str | None = None,
    identified: bool = False,
) -> Backbone:
    """Return a model without weights: it makes inputs and knows its size, but cannot answer.

    Args:
        name: what the user calls it.
        device: as for ``open_backbone``.
        dtype: as for ``open_backbone``.
        chat_template: as for ``open_backbone``.
        attention: as for ``open_backbone``; part of its identity alone.
        quantize: likewise.
        identified: with the identity that it would have with its weights, which are then fetched and read once; else
            that lacks the digests of their files.

    Raises:
        as ``open_backbone``.
    """
    card = open_card(name)
    target = pick_device(device)
    files = find_checkpoint(card, weights=identified)
    how = Loading(
        target,
        pick_dtype(dtype, target),
        attention,
        quantize=quantize or "",
        pixels=files.card.pixels,
        chat_template=chat_template,
        weights=False,
    )
    model, processor = load(name, files, replace(how, attention="sdpa", quantize=""))
    identity = (_identity if identified else _prepared)(files, how, processor)
    recorded = _recorded(name, card, files, how, model) if identified else _named(name, card, files)
    return Backbone(name, model, processor, traits_of(model, processor), files.card, how.dtype_name, identity, recorded)
