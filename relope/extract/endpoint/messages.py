"""A sample as the messages of a request: its turns, and its images as data URIs."""

import base64
import io
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError
from relope.extract.data.turns import asked_turns, split_at_images
from relope.types import LazyImage, Sample

if TYPE_CHECKING:
    from PIL.Image import Image


FAST = 1
"""How hard PNG is packed. Choice: at the usual 6 a photo takes four times as long, to be a sixth smaller."""


def messages_of(sample: Sample, text_only: bool, max_pixels: int | None) -> list[dict[str, Any]]:
    """Return what a sample is put to a model as.

    Args:
        sample: as the model shall see it.
        text_only: its caption stands in for its images.
        max_pixels: larger images are made smaller; None sends them as they are.

    Raises:
        InvalidInputError: an image cannot be opened, or there is no caption to stand in for it.
    """
    turns = split_at_images(asked_turns(sample, text_only), 0 if text_only else len(sample.images))
    images = iter(enumerate(sample.images, 1))
    messages = []
    for role, parts in turns:
        content: Any = [
            text_part(part) if part is not None else _sample_image(sample, *next(images), max_pixels) for part in parts
        ]
        if None not in parts:
            content = "".join(part["text"] for part in content)
        messages.append({"role": role, "content": content})
    return messages


def _sample_image(sample: Sample, number: int, image: LazyImage, max_pixels: int | None) -> dict[str, Any]:
    try:
        return image_part(image, max_pixels)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"image {number} of sample {sample.id!r} cannot be opened: {error}") from error


def text_part(text: str) -> dict[str, Any]:
    """Return a text as a part of a message's content."""
    return {"type": "text", "text": text}


def image_part(image: LazyImage, max_pixels: int | None = None) -> dict[str, Any]:
    """Return an image as a part of a message's content; arguments as of `data_uri`."""
    return {"type": "image_url", "image_url": {"url": data_uri(image, max_pixels)}}


def data_uri(image: LazyImage, max_pixels: int | None = None) -> str:
    """Return an image as it is sent: PNG, so that nothing of it is lost.

    Args:
        image: opened here.
        max_pixels: width times height at most; its shape stays.
    """
    buffer = io.BytesIO()
    _within(image.open().convert("RGB"), max_pixels).save(buffer, "PNG", compress_level=FAST)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _within(image: "Image", max_pixels: int | None) -> "Image":
    pixels = image.width * image.height
    if max_pixels is None or pixels <= max_pixels:
        return image
    scale = (max_pixels / pixels) ** 0.5
    width, height = (max(1, int(side * scale)) for side in image.size)
    return image.resize((width, height), reducing_gap=3.0)
