"""A sample as a conversation: what each turn says, and where its images stand in the text."""

import re
from collections.abc import Sequence

from relope.errors import InvalidInputError
from relope.extract.data import prompts
from relope.types import Sample

Part = str | None
"""A piece of a turn: text, or None where an image stands."""

Turn = tuple[str, Sequence[Part]]
"""A role, and the pieces of what it says."""

_TAG = re.compile(r"<image (\d{1,3})>")


def split_at_images(said: Sequence[tuple[str, str]], n_images: int) -> list[Turn]:
    """Cut the user's turns where images stand, in the order of the sample's images.

    An image stands where ``<image 1>``, ``<image 2>``, … first mentions it; later mentions stay as
    text. Images that are not all mentioned, in their order, come before the user's first text as it is.

    Args:
        said: role and text of each turn.
        n_images: images of the sample.
    """
    first: dict[int, tuple[int, re.Match[str]]] = {}
    for turn, (role, text) in enumerate(said):
        for tag in _TAG.finditer(text) if role == "user" else ():
            if 1 <= int(tag[1]) <= n_images:
                first.setdefault(int(tag[1]), (turn, tag))
    if list(first) != list(range(1, n_images + 1)):
        begins = next((turn for turn, (role, _) in enumerate(said) if role == "user"), 0)
        return [(role, [*[None] * (n_images * (turn == begins)), text]) for turn, (role, text) in enumerate(said)]
    return [
        (role, _cut(text, [tag for at, tag in first.values() if at == turn])) for turn, (role, text) in enumerate(said)
    ]


def _cut(text: str, tags: Sequence[re.Match[str]]) -> list[Part]:
    parts: list[Part] = []
    end = 0
    for tag in tags:
        parts += [text[end : tag.start()], None]
        end = tag.end()
    return [part for part in (*parts, text[end:]) if part != ""] or [""]


def prompt_text(sample: Sample, text_only: bool) -> str:
    """Return the text of the user's turn; with ``text_only`` the caption comes first.

    Raises:
        InvalidInputError: there is no caption to stand in for the sample's images.
    """
    asked = sample.prompt or prompts.build(sample.question, sample.choices, sample.hint, sample.instruction)
    if not (text_only and (sample.images or sample.caption)):
        return asked
    if not sample.caption:
        raise InvalidInputError(
            f"sample {sample.id!r} has no caption to stand in for its image",
            hint="`relope caption` makes captions for --captions; or drop --text-only",
        )
    return asked if sample.prompt else f"{sample.caption}\n{asked}"


def asked_turns(sample: Sample, text_only: bool) -> list[tuple[str, str]]:
    """Return role and text of each turn that a sample is put to a model as; the last one asks.

    Raises:
        InvalidInputError: there is no caption to stand in for the sample's images.
    """
    before = [(role, text) for role, text in sample.said_before]
    return [*before, ("user", prompt_text(sample, text_only))]
