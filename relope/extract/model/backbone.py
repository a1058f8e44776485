"""An opened model with its processor: questions in, model inputs and modules out."""

import inspect
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from relope.errors import InvalidInputError, UnsupportedError
from relope.extract.data import prompts
from relope.extract.model.card import Card, locate, open_card
from relope.extract.model.chat import Chat
from relope.extract.model.load import Loading, check_quantize, load, pick_device, pick_dtype
from relope.provenance import folder_digest
from relope.types import Sample

MODEL_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
ADAPTER_FILES = ("adapter_config.json", "*.safetensors")
PROCESSOR_FILES = (
    "preprocessor_config.json", "processor_config.json", "tokenizer*", "special_tokens_map.json", "vocab.*",
    "merges.txt", "chat_template*",
)  # fmt: skip


_decoders = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "relope-decode")
"""Pillow decodes without the interpreter's lock; a batch's pictures are decoded side by side."""


@dataclass(frozen=True)
class Backbone:
    """A frozen model, ready to answer.

    Attributes:
        name: what the user called it.
        model: the transformers model in eval mode.
        processor: its processor (or tokenizer, for a text-only model).
        card: where it came from.
        identity: everything that keys a store's recipe.
        recorded: what is worth knowing but does not key it.
    """

    name: str
    model: Any
    processor: Any
    card: Card
    identity: dict[str, Any]
    recorded: dict[str, Any]

    @property
    def decoder(self) -> Any:
        """The text decoder: its ``layers``, ``norm`` and ``rotary_emb``."""
        return self.model.get_decoder()

    @property
    def blocks(self) -> nn.ModuleList:
        return self.decoder.layers  # type: ignore[no-any-return]

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer within the processor, or the processor itself."""
        return getattr(self.processor, "tokenizer", self.processor)

    @cached_property
    def chat(self) -> Chat:
        """Its chat template."""
        return Chat(self.name, self.processor)

    @property
    def image_id(self) -> int | None:
        """Token id of a picture's places in a prompt; None for a text-only model."""
        config = self.model.config
        vision = getattr(config, "vision_config", None)
        names = ((config, "image_token_id"), (config, "image_token_index"), (vision, "image_token_id"))
        found = (getattr(place, name, None) for place, name in names)
        return next((int(number) for number in found if number is not None), None)

    @property
    def rope_turn(self) -> int | None:
        """Length from which a batch's longest row changes the rope of all (LongRoPE, Phi-4); None for most models."""
        config = self.model.config.get_text_config()
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") != "longrope":
            return None
        turn = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
        return int(turn)

    @property
    def default_layer(self) -> int:
        return self.card.layer or max(1, len(self.blocks) // 2)

    def inputs(self, samples: Sequence[Sample], text_only: bool = False) -> dict[str, Tensor]:
        """Build the left-padded batch of a few samples, on the CPU.

        Raises:
            UnsupportedError: the samples have pictures that the model cannot see, or the processor
                gives no token types to a class that masks by them.
            InvalidInputError: a picture cannot be opened, or the prompt is too long.
        """
        texts, images = [], []
        for sample in samples:
            n_pictures = 0 if text_only else len(sample.pictures)
            if n_pictures and not self.chat.sees:
                raise UnsupportedError(f"model {self.name} is text-only but the samples have pictures; add --text-only")
            texts.append(self.chat.render([("user", self.chat.parts(prompt_text(sample, text_only), n_pictures))]))
            images.append([_decoders.submit(_open, sample, place) for place in range(n_pictures)])
        images = [[decoding.result() for decoding in mine] for mine in images]
        given = {"images": images} if any(images) else {}
        batch = self.processor(
            text=texts, padding=True, padding_side="left", return_tensors="pt",
            add_special_tokens=not self._begun(texts), **given,
        )  # fmt: skip
        if given:
            self._check_types(batch)
        return self._checked(dict(batch), samples)

    def place(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch's inputs on the model's device, pictures in its dtype."""
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}
        return {name: tensor.to(self.dtype) if tensor.is_floating_point() else tensor for name, tensor in moved.items()}

    def _begun(self, texts: Sequence[str]) -> bool:
        """Return whether the chat template wrote the token that begins a text, which must not stand there twice."""
        begin = self.tokenizer.bos_token
        return bool(begin) and all(text.startswith(begin) for text in texts)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a piece of a prompt."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def follow_up(self, question: str) -> str:
        """Return the text between the model's own answer and its next one, when it is asked a question.

        Raises:
            UnsupportedError: the chat template does not show an answer as it is.
        """
        answer = "0123456789"
        turns = [("user", "?"), ("assistant", answer), ("user", question)]
        rendered = self.chat.render([(role, [text]) for role, text in turns])
        _, found, after = rendered.rpartition(answer)
        if not found or question.strip() not in after:
            raise UnsupportedError(f"the chat template of {self.name} shows no earlier turns; drop --p-true")
        return after

    def _check_types(self, batch: Any) -> None:
        """Refuse pictures without the token types by which the model's mask or positions are made."""
        taken = inspect.signature(self.model.forward).parameters
        known = [name for name in ("mm_token_type_ids", "token_type_ids") if name in taken]
        if known and not any(name in batch and bool(batch[name].any()) for name in known):
            raise UnsupportedError(
                f"the processor of {self.name} gives no {known[0]}, without which {type(self.model).__name__} would "
                "read pictures wrongly; install torchvision, or a release of transformers that suits the checkpoint"
            )

    def _checked(self, batch: dict[str, Tensor], samples: Sequence[Sample]) -> dict[str, Tensor]:
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        longest = batch["input_ids"].shape[1]
        if limit and longest > limit:
            raise InvalidInputError(
                f"a prompt of {longest} tokens is longer than the {limit} of {self.name}; shorten the question or use "
                f"smaller pictures (the batch begins with sample {samples[0].id!r})"
            )
        return batch


def prompt_text(sample: Sample, text_only: bool) -> str:
    """Return the text of the user's turn; with ``text_only`` the caption comes first."""
    asked = prompts.build(sample.question, sample.choices, sample.hint, sample.instruction)
    if not (text_only and (sample.pictures or sample.caption)):
        return asked
    if not sample.caption:
        raise InvalidInputError(f"sample {sample.id!r} has no caption to stand in for its picture; drop --text-only")
    return f"{sample.caption}\n{asked}"


def _open(sample: Sample, place: int) -> Any:
    try:
        return sample.pictures[place].open().convert("RGB")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"picture {place + 1} of sample {sample.id!r} cannot be opened: {error}") from error


def open_backbone(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "sdpa",
    *,
    spread: bool = False,
    quantize: str | None = None,
) -> Backbone:
    """Load a model by CLI name, folder or hub id; remote code is never run.

    Args:
        name: what the user calls it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.
        dtype: ``auto``, ``float32`` or ``bfloat16``.
        attention: attention implementation.
        spread: place the blocks on all devices there are.
        quantize: ``4bit`` or ``8bit`` weights.

    Raises:
        NotFoundError: unknown name, or the hub cannot be reached.
        UnsupportedError: a class whose states would be captured wrongly.
        InvalidInputError: an unknown device or dtype, or a quantization that cannot work here.
    """
    card = open_card(name)
    place = pick_device(device)
    how = Loading(place, pick_dtype(dtype, place), attention, spread, quantize or "", card.pixels, card.adapter)
    check_quantize(how)  # before anything is fetched
    folder, revision = locate(card)
    model, processor = load(name, folder, how)
    identity: dict[str, Any] = {
        "model_files": folder_digest(folder, MODEL_FILES),
        "processor_files": folder_digest(folder, PROCESSOR_FILES),
        "image_processor": _image_processor(processor),
        "compute_dtype": str(how.dtype).removeprefix("torch."),
        "attention": attention,
    }
    if card.adapter:
        identity["adapter_files"] = folder_digest(folder / card.adapter, ADAPTER_FILES)
    if card.pixels:
        identity["pixels"] = list(card.pixels)
    if how.quantize:
        identity["quantize"] = how.quantize
    recorded = {"model": name, "source": card.source, "revision": revision, "class": type(model).__name__,
                "device": "all" if spread else str(place)}  # fmt: skip
    return Backbone(name, model, processor, card, identity, recorded)


def open_skeleton(name: str, device: str = "auto", dtype: str = "auto") -> Backbone:
    """Return a model without weights: it makes inputs and knows its size, but cannot answer.

    Raises:
        as ``open_backbone``.
    """
    card = open_card(name)
    place = pick_device(device)
    folder, revision = locate(card, weights=False)
    how = Loading(place, pick_dtype(dtype, place), pixels=card.pixels, weights=False)
    model, processor = load(name, folder, how)
    return Backbone(name, model, processor, card, {}, {"model": name, "source": card.source, "revision": revision})


def _image_processor(processor: Any) -> str:
    found = getattr(processor, "image_processor", None)
    return type(found).__name__ if found is not None else ""
