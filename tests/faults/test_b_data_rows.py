"""B: rows of a data file that ended a run, or skipped what was sound."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from relope.extract.data.images import decode

CORNER = np.zeros((16, 24, 3), np.uint8)
CORNER[:4, :4] = 255
"""A white corner, top left."""


def with_exif(exif, kind="PNG"):
    """Return the picture with EXIF data."""
    buffer = io.BytesIO()
    if kind == "JPEG" and isinstance(exif, bytes):
        exif = b"Exif\x00\x00" + exif
    Image.fromarray(CORNER).save(buffer, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def tiff(*entries, tail=b""):
    """Return EXIF data of entries: tag, type, count, value."""
    made = b"MM\x00\x2a\x00\x00\x00\x08" + struct.pack(">H", len(entries))
    return made + b"".join(struct.pack(">HHII", *entry) for entry in entries) + struct.pack(">I", 0) + tail


ORIENTATION = 0x0112
BAD = {
    "no TIFF": b"not at all",
    "cut off": tiff((ORIENTATION, 3, 1, 6 << 16))[:14],
    "an offset beyond the end": tiff((0x8769, 4, 1, 0xFFFFFFF0)),
    "a value of another type": tiff((ORIENTATION, 2, 4, 0x41424300)),
    "a value out of range": tiff((ORIENTATION, 3, 1, 77 << 16)),
    "a broken fraction": tiff((0x011A, 5, 1, 4096)),
    "an unknown type": tiff((ORIENTATION, 99, 1, 6 << 16)),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", BAD.values(), ids=BAD)
def test_b_bad_exif_does_not_skip_a_sound_image(exif, kind):
    shown = decode(with_exif(exif, kind))
    assert shown.size == (24, 16) and shown.getpixel((1, 1))[0] > 200 > 50 > shown.getpixel((22, 14))[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_b_good_exif_still_turns_images_even_beside_a_bad_entry(kind):
    corners = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
    for orientation, (right, low) in corners.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        shown = decode(with_exif(exif, kind))
        assert shown.size == ((24, 16) if orientation < 5 else (16, 24))
        x, y = (shown.width - 2) * right + 1 - right, (shown.height - 2) * low + 1 - low
        assert shown.getpixel((x, y))[0] > 200, orientation
    if kind != "TIFF":
        bad = tiff((ORIENTATION, 3, 1, 6 << 16), (0x011A, 5, 1, 4096))
        assert decode(with_exif(bad, kind)).size == (16, 24)
