"""A18: grey of more than 8 bits is scaled by the range of its kind, or the image is skipped and named."""

import io
import struct

import numpy as np
import pytest
from own_data import lines, read
from PIL import Image

from relope.errors import InvalidInputError
from relope.extract.data.flaws import find_flaws
from relope.extract.data.images import decode

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64)
"""Black to white, row by row."""


def saved(pixels, kind):
    """Return pixels as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def portable(white, big_endian=True):
    """Return the ramp as a binary PGM whose white is a number."""
    pixels = np.rint(RAMP * white).astype(">u2" if big_endian else "<u2")
    return f"P5\n64 48\n{white}\n".encode() + pixels.tobytes()


def tagged(pixels, bits, photometric, order=">"):
    """Return packed rows as an uncompressed TIFF, 64 by 48, big-endian or little-endian."""
    entries = [(256, 64), (257, 48), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 48)]
    data = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8 + len(pixels)) + pixels
    data += struct.pack(f"{order}H", len(entries) + 1)
    for tag, value in entries:
        data += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    return data + struct.pack(f"{order}HHIII", 279, 4, 1, len(pixels), 0)


def packed_12_bits():
    """Return the ramp in rows of 12 bits a pixel."""
    pixels = np.rint(RAMP * 4095).astype(np.uint16).reshape(-1, 2)
    first, second = pixels[:, 0], pixels[:, 1]
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


SIXTEEN = np.rint(RAMP * 65535).astype(np.uint16)
SCALED = {
    "PNG": lambda: saved(SIXTEEN, "PNG"),
    "TIFF I;16": lambda: saved(SIXTEEN, "TIFF"),
    "TIFF I;16B": lambda: tagged(SIXTEEN.astype(">u2").tobytes(), 16, 1),
    "TIFF of 12 bits": lambda: tagged(packed_12_bits(), 12, 1, "<"),
    "TIFF, white is 0": lambda: tagged((65535 - SIXTEEN).astype("<u2").tobytes(), 16, 0, "<"),
    "TIFF of floats": lambda: saved(RAMP.astype(np.float32), "TIFF"),
    "PGM 16": lambda: portable(65535),
    "PGM of 10 bits": lambda: portable(1023),
    "JPEG 2000": lambda: saved(SIXTEEN, "JPEG2000"),
    "PFM": lambda: saved(RAMP.astype(np.float32), "PPM"),
}


@pytest.mark.parametrize("kind", SCALED)
def test_a18_grey_is_scaled_by_the_range_of_its_kind(kind):
    shown = decode(SCALED[kind]())
    assert shown.mode == "RGB" and shown.size == (64, 48)
    pixels = np.asarray(shown).astype(int)
    expected = np.rint(RAMP * 255)
    assert np.ptp(pixels, axis=2).max() == 0, "red, green and blue are the same"
    assert np.abs(pixels[:, :, 0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        ((RAMP * 2**30).astype(np.int32), "32-bit whole numbers from 0 to"),
        ((RAMP * 200).astype(np.int32), "32-bit whole numbers from 0 to 200"),
        ((RAMP * 255).astype(np.float32), "numbers with a point from 0 to 255"),
        ((RAMP - 0.5).astype(np.float32), "numbers with a point from -0.5 to 0.5"),
        (np.full((4, 4), np.nan, np.float32), "numbers with a point from nan"),
    ],
)
def test_a18_a_range_that_is_not_known_is_skipped_and_named(pixels, says):
    with pytest.raises(InvalidInputError, match=says):
        decode(saved(pixels, "TIFF"))


def test_a18_a_see_through_grey_is_white():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 65535, 300]], np.uint16)).save(buffer, "PNG", transparency=0)
    assert np.asarray(decode(buffer.getvalue()))[0, :, 0].tolist() == [255, 255, 1]


def test_a18_the_same_picture_with_8_and_16_bits_gives_a_model_the_same(tmp_path, backbone):
    eight = np.rint(RAMP * 255).astype(np.uint8)
    (tmp_path / "8.png").write_bytes(saved(eight, "PNG"))
    (tmp_path / "16.png").write_bytes(saved(eight.astype(np.uint16) * 257, "PNG"))
    rows = [{"id": n, "image": f"{n}.png", "question": "What?", "answer": "x", "split": "test"} for n in ("8", "16")]
    samples = read(lines(tmp_path / "q.jsonl", rows))
    assert find_flaws(list(samples.values()), text_only=False)[0] == []
    inputs = [backbone.inputs([samples[name]], False)["pixel_values"].numpy() for name in ("8", "16")]
    assert np.array_equal(*inputs)
