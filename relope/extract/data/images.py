"""Encoded images, read and decoded only when needed; a broken one says why."""

import contextlib
import hashlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from relope.errors import InvalidInputError
from relope.extract.data.grey import as_grey, is_deep
from relope.types import LazyImage

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
"""Pixels of an image at most: decoded they take four bytes each, several times over."""

_LARGE_PIXELS = 4_000_000
_NOT_DECODED = {"EPS": "a program that another program would have to run"}
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""EXIF orientation → what turns the image upright."""

_opening = threading.Lock()
_one_large = threading.Lock()
"""Held while a large image is decoded, so that several threads do not take as many times the memory."""


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
    digest = hashlib.sha256(encoded).hexdigest()

    def opened() -> "Image":
        now = read()
        if hashlib.sha256(now).hexdigest() != digest:
            raise InvalidInputError("the image has changed since its digest was taken")
        return decode(now)

    return LazyImage(digest, opened)


def decode(encoded: bytes, formats: tuple[str, ...] | None = None) -> "Image":
    """Return the first frame of an encoded image as upright RGB; see-through parts become white.

    Grey of more than 8 bits is scaled by the range of its kind. EXIF data that cannot be read turn nothing.

    Args:
        encoded: the file's bytes.
        formats: Pillow's names of those that are let in; None lets in all.

    Raises:
        InvalidInputError: it is empty, of no known format, truncated, too large, or of pixels whose range is unknown.
    """
    with _told():
        opened = _opened(encoded, formats)
        with _one_large if opened.width * opened.height > _LARGE_PIXELS else contextlib.nullcontext():
            opened.load()
            return _on_white(_upright(as_grey(opened) if is_deep(opened.mode) else opened))


def header_size(encoded: bytes, formats: tuple[str, ...]) -> tuple[int, int]:
    """Return width and height of an encoded image, of which no more than the header is read.

    Args:
        encoded: the file's bytes.
        formats: Pillow's names of those that are let in.

    Raises:
        InvalidInputError: as `decode`, as far as the header tells it.
    """
    with _told():
        return _opened(encoded, formats).size


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn whatever decoders raise into our error."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except InvalidInputError:
        raise
    except UnidentifiedImageError as error:
        raise InvalidInputError("the image cannot be decoded: it is of no format that Pillow knows") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidInputError(f"the image has more than {_MOST}; make it smaller") from error
    except Exception as error:  # decoders raise anything on hostile bytes
        reason = str(error).replace(str(type(error)), "").splitlines()
        raise InvalidInputError(f"the image cannot be decoded: {reason[0] if reason else type(error)}") from error


_MOST = f"{MAX_PIXELS / 1e6:.0f} million pixels"


def _opened(encoded: bytes, formats: tuple[str, ...] | None = None) -> "Image":
    """Return an image of which no more than the header is read."""
    from PIL import Image

    if not encoded:
        raise InvalidInputError("the image is empty (0 bytes)")
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # corrupt EXIF data are warned of
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        opened = Image.open(io.BytesIO(encoded), formats=formats)
    if not all(opened.size):
        raise InvalidInputError(f"the image has the size {opened.width}×{opened.height}")
    if opened.width * opened.height > MAX_PIXELS:
        raise InvalidInputError(
            f"the image has {opened.width}×{opened.height} pixels, more than {_MOST}; make it smaller"
        )
    if opened.format in _NOT_DECODED:
        raise InvalidInputError(f"the image is {opened.format}: {_NOT_DECODED[opened.format]}")
    return opened


def _upright(image: "Image") -> "Image":
    """Return an image turned as its EXIF data say, where they can be read."""
    from PIL import Image

    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 (EXIF data hold anything, and say nothing of the pixels)
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image.transpose(Image.Transpose[turn]) if turn else image


def _on_white(image: "Image") -> "Image":
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    shown = image if image.mode == "RGBA" else image.convert("RGBA")
    ground = Image.new("RGB", shown.size, "white")
    ground.paste(shown, mask=shown.getchannel("A"))
    return ground
