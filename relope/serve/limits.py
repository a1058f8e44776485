"""What one request may hold, and how long it may take; the operator moves what `relope serve --help` names."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Caps on a request.

    Attributes:
        body_bytes: of the body as it is sent.
        messages: turns.
        parts: pieces of content over all turns.
        images: over all turns.
        image_bytes: of an encoded image.
        pixels: of an image, read from its header before it is decoded.
        total_pixels: over all images of a request.
        answer_tokens: that may be asked for.
        batch: requests in one call of the score endpoint.
        body_s: seconds in which a body must have come.
        header_s: seconds in which the lines before it must have come.
        send_s: seconds that a client which reads nothing may keep the next event of its stream waiting.
        held_pixels: decoded for requests that are not decided and answered yet, all of them together.
    """

    body_bytes: int = 20 << 20
    messages: int = 256
    parts: int = 512
    images: int = 16
    image_bytes: int = 10 << 20
    pixels: int = 16_000_000
    total_pixels: int = 64_000_000
    answer_tokens: int = 4096
    batch: int = 64
    body_s: float = 30.0
    header_s: float = 10.0
    send_s: float = 60.0
    held_pixels: int = 1_000_000_000
