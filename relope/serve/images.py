"""Images of a request: data URIs, taken apart by us; nothing but their bytes reaches a decoder.

The format and the size are read from the header before any pixel is decoded. A path or another kind of address is
never opened; what ``https`` hosts the operator allows is fetched by `relope.serve.fetch`.
"""

import base64
import binascii
import re
from typing import TYPE_CHECKING

from relope.errors import InvalidInputError
from relope.extract.data.images import decode, header_size
from relope.serve.limits import Limits
from relope.serve.problems import Problem, invalid, too_large

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_HEAD = re.compile(r"data:image/(png|jpe?g|webp|gif);base64,", re.IGNORECASE)


def is_data(url: str) -> bool:
    """Return whether an image's address is a data URI."""
    return url[:5].lower() == "data:"


def data_bytes(url: str, limits: Limits, param: str) -> bytes:
    """Return the encoded image of a data URI.

    Raises:
        Problem: another kind of image than PNG, JPEG, WEBP and GIF, no base64, or more bytes than allowed.
    """
    head = _HEAD.match(url)
    if not head:
        raise invalid("an image must be data:image/png, jpeg, webp or gif in base64", param, "invalid_image")
    if (len(url) - head.end()) * 3 // 4 > limits.image_bytes + 3:
        raise too_large(f"an image has more than the {limits.image_bytes:,} bytes that are allowed", param)
    try:
        return base64.b64decode(url[head.end() :].encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("an image is no base64", param, "invalid_image") from error


def size_of(encoded: bytes, limits: Limits, param: str) -> int:
    """Return the pixels of an encoded image, by its header.

    Raises:
        Problem: another format, a header that cannot be read, or more pixels than allowed.
    """
    if len(encoded) > limits.image_bytes:
        raise too_large(f"an image has more than the {limits.image_bytes:,} bytes that are allowed", param)
    try:
        width, height = header_size(encoded, FORMATS)
    except InvalidInputError as error:
        raise invalid(f"{error} (PNG, JPEG, WEBP and GIF are read)", param, "invalid_image") from error
    if width * height > limits.pixels:
        size = f"{width}×{height} pixels"
        raise too_large(f"an image has {size}, more than the {limits.pixels:,} that are allowed", param)
    return width * height


def decoded(encoded: bytes, param: str) -> "Image":
    """Return the image as the extraction of a store would show it to the model: upright RGB, on white.

    Raises:
        Problem: its pixels cannot be decoded.
    """
    try:
        return decode(encoded, FORMATS)
    except InvalidInputError as error:
        raise Problem(400, str(error), "invalid_image", param) from error
