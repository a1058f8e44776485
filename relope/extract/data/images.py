"""Encoded images, read and decoded only when needed; a broken one says why."""

import hashlib
import io
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from relope.errors import InvalidInputError
from relope.types import LazyImage

if TYPE_CHECKING:
    from PIL.Image import Image

_opening = threading.Lock()


def lazy_image(read: Callable[[], bytes], name: str = "") -> LazyImage:
    """Return the image that a function reads the encoded bytes of.

    Its digest is of the encoded bytes, so that nothing is decoded to group questions by image.
    What cannot be read has a digest of its name and the reason; opening it then tells the reason.

    Args:
        read: gives the encoded bytes, each time that the image is opened.
        name: what the data set calls the image: the same wherever the data set lies.
    """
    try:
        encoded = read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        encoded = f"unreadable: {name}: {reason}".encode(errors="replace")
    return LazyImage(hashlib.sha256(encoded).hexdigest(), lambda: decode(read()))


def decode(encoded: bytes) -> "Image":
    """Return the first frame of an encoded image as upright RGB; see-through parts become white.

    Raises:
        InvalidInputError: it is empty, of no known format, truncated, or larger than Pillow's bound.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not encoded:
        raise InvalidInputError("the image is empty (0 bytes)")
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(encoded))
        if not all(opened.size):
            raise InvalidInputError(f"the image has the size {opened.width}×{opened.height}")
        return _on_white(ImageOps.exif_transpose(opened))
    except InvalidInputError:
        raise
    except UnidentifiedImageError as error:
        raise InvalidInputError("the image cannot be decoded: it is of no format that Pillow knows") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels"
        raise InvalidInputError(f"the image has more than {limit}; make it smaller") from error
    except Exception as error:  # decoders raise anything on hostile bytes
        reason = str(error).replace(str(type(error)), "").splitlines()
        raise InvalidInputError(f"the image cannot be decoded: {reason[0] if reason else type(error)}") from error


def _on_white(image: "Image") -> "Image":
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    ground = Image.new("RGB", shown.size, "white")
    ground.paste(shown, mask=shown.getchannel("A"))
    return ground
