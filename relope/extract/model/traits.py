"""What a model and its processor can do, looked up once where a model is opened."""

import inspect
from dataclasses import dataclass
from typing import Any, cast

from relope.extract.model.interfaces import Model, Processor, Tokenizer
from relope.rope import longrope_bound


@dataclass(frozen=True)
class Traits:
    """What differs between classes of models, and between checkpoints of a class.

    Attributes:
        sees_images: whether the model takes images.
        image_token: what stands for an image in a text; ``""`` where the processor names none.
        image_token_id: id of an image's tokens in a prompt; None for a text-only model.
        media_tokens: tokens that the processor takes for an image, video or sound wherever they stand.
        type_inputs: inputs that hold token types, by which the class makes its mask or positions.
        context: longest prompt in tokens; None where the configuration does not say.
        rope_bound: see `longrope_bound`.
        position_rows: rows of position ids; 4 with multimodal rotary embeddings (text, time, height, width).
        derives_positions: whether a plain forward finds the positions of a left-padded batch itself.
        keeps_rope_deltas: whether it remembers what a prompt's images moved the positions of its answer by.
        quantized: whether the weights are.
        end_ids: tokens that end an answer.
    """

    sees_images: bool
    image_token: str
    image_token_id: int | None
    media_tokens: tuple[str, ...]
    type_inputs: tuple[str, ...]
    context: int | None
    rope_bound: int | None
    position_rows: int
    derives_positions: bool
    keeps_rope_deltas: bool
    quantized: bool
    end_ids: tuple[int, ...]


def traits_of(model: Model, processor: Processor) -> Traits:
    """Return the traits of a transformers model and its processor (or tokenizer)."""
    config, inner = model.config, getattr(model, "model", None)
    text_config = config.get_text_config()
    sees_images = hasattr(processor, "image_processor")
    image_token_id = _image_token_id(config)
    taken = inspect.signature(model.forward).parameters
    return Traits(
        sees_images=sees_images,
        image_token=_in_text(processor),
        image_token_id=image_token_id,
        media_tokens=_media_tokens(processor, image_token_id) if sees_images else (),
        type_inputs=tuple(name for name in ("mm_token_type_ids", "token_type_ids") if name in taken),
        context=getattr(text_config, "max_position_embeddings", None) or None,
        rope_bound=longrope_bound(text_config),
        position_rows=4 if "mrope_section" in (getattr(text_config, "rope_parameters", None) or {}) else 1,
        derives_positions=hasattr(inner, "get_rope_index"),
        keeps_rope_deltas=hasattr(inner, "rope_deltas"),
        quantized=bool(getattr(model, "is_quantized", False)),
        end_ids=_end_ids(model),
    )


def _in_text(processor: Processor) -> str:
    """Return what stands for an image in a text, or ``""``; Gemma's processor looks for the token that begins one."""
    name = "boi_token" if type(processor).__name__.startswith("Gemma3") else "image_token"
    return getattr(processor, name, None) or ""


def tokenizer_of(processor: Any) -> Tokenizer:
    """Return the tokenizer within a processor, or the processor where it is one itself."""
    return cast(Tokenizer, getattr(processor, "tokenizer", processor))


def image_processor_name(processor: Processor) -> str:
    """Return the class that prepares images, or ``""``: a model's pixels depend on it."""
    prepares = getattr(processor, "image_processor", None)
    return type(prepares).__name__ if prepares is not None else ""


def _image_token_id(config: Any) -> int | None:
    vision = getattr(config, "vision_config", None)
    held = ((config, "image_token_id"), (config, "image_token_index"), (vision, "image_token_id"))
    ids = (getattr(where, name, None) for where, name in held)
    return next((int(number) for number in ids if number is not None), None)


def _media_tokens(processor: Processor, image_token_id: int | None) -> tuple[str, ...]:
    named = [getattr(processor, name, None) for name in ("image_token", "video_token", "audio_token")]
    own = tokenizer_of(processor).convert_ids_to_tokens(image_token_id) if image_token_id is not None else None
    return tuple(dict.fromkeys(token for token in (*named, own) if isinstance(token, str) and token))


def _end_ids(model: Model) -> tuple[int, ...]:
    generation = model.generation_config  # None where a skeleton cannot generate
    ends = generation.eos_token_id if generation is not None else None
    return tuple(ends) if isinstance(ends, (list, tuple)) else () if ends is None else (int(ends),)
