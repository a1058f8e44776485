"""Grey images of more than 8 bits a pixel, which Pillow turns white or black instead of scaling them."""

from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError

if TYPE_CHECKING:
    from PIL.Image import Image

_WHITE = 65535
_BITS, _PHOTOMETRIC = 258, 262
"""Tags of TIFF: bits of a pixel, and what its numbers mean."""

_WHITE_IS_ZERO = 0


def is_deep(mode: str) -> bool:
    """Return whether pixels of a mode of Pillow have more than 8 bits."""
    return mode.startswith(("I", "F"))


def as_grey(image: "Image") -> "Image":
    """Return a loaded image of more than 8 bits in 8 bits: ``L``, or ``LA`` where a colour is see-through.

    Raises:
        InvalidInputError: which number is white is not known.
    """
    import numpy as np
    from PIL import Image as Pillow

    pixels = np.asarray(image)
    white = _white(image, pixels)
    grey = np.rint(np.clip(pixels.astype(np.float32), 0, white) * (255 / white)).astype(np.uint8)
    if _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    made = Pillow.fromarray(grey)
    through = image.info.get("transparency")
    if isinstance(through, int):
        made.putalpha(Pillow.fromarray(np.where(pixels == through, 0, 255).astype(np.uint8)))
    made.info.update({name: value for name, value in image.info.items() if name in ("exif", "XML:com.adobe.xmp")})
    return made


def _white(image: "Image", pixels: Any) -> float:
    """Return the number that stands for white."""
    low, high = float(pixels.min()), float(pixels.max())
    if image.mode.startswith("I;16"):
        bits = _tags(image).get(_BITS)
        return float(2 ** bits[0] - 1) if isinstance(bits, tuple) and 8 < bits[0] < 16 else _WHITE
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits, by their formats
        return _WHITE
    if image.mode == "F" and low >= 0 and high <= 1:  # false for NaN
        return 1.0
    kind = "numbers with a point" if image.mode == "F" else "32-bit whole numbers"
    raise InvalidInputError(
        f"the image has {kind} from {low:g} to {high:g} as pixels, and which of them is white is not known; save it "
        "with 8 or 16 bits"
    )


def _tags(image: "Image") -> Any:
    return getattr(image, "tag_v2", {})
