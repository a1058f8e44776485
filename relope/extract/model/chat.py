"""A conversation in the words of a model's chat template, its images where the text mentions them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from relope.errors import UnsupportedError, reason_of
from relope.extract.model.interfaces import Processor

Part = str | None
"""A piece of a turn: text, or None where an image stands."""

Turn = tuple[str, Sequence[Part]]
"""A role, and the pieces of what it says."""

_DAY = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}"
"""Put before a template that writes today's date (Llama 3's), so that prompts last. Choice: the template's default."""

_TAG = re.compile(r"<image (\d{1,3})>")
_BEFORE, _AFTER = "0123456789", "9876543210"


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


@dataclass(frozen=True)
class Chat:
    """The chat template of a processor.

    Attributes:
        name: of the model, for errors.
        processor: a processor, or the tokenizer of a text-only model.
        sees_images: whether the model takes images.
        image_token: what stands for an image in a text; ``""`` where the processor names none.
    """

    name: str
    processor: Processor
    sees_images: bool
    image_token: str

    @cached_property
    def style(self) -> str:
        """What the template makes of images.

        ``parts``: it shows them where they stand; ``first``: it moves them before the text;
        ``text``: it takes nothing but text, in which the image's token has to stand.
        """
        if not self.sees_images:
            return "text"
        probe = [{"role": "user", "content": _listed([_BEFORE, None, _AFTER])}]
        try:
            rendered = self._apply(probe)
        except TypeError:  # also of a template that refuses it
            return "text"
        if "'type'" in rendered:  # the list itself, spelt out
            return "text"
        between = rendered.partition(_BEFORE)[2].partition(_AFTER)[0]
        return "parts" if between.strip() else "first"

    def turns(self, said: Sequence[tuple[str, str]], n_images: int) -> list[Turn]:
        """Return a conversation's turns in pieces that this template can show."""
        cut = split_at_images(said, n_images)
        if self.style != "first":
            return cut
        counted = ((parts.count(None), turn) for (_, parts), turn in zip(cut, said, strict=True))
        return [(role, [*[None] * images, text]) for images, (role, text) in counted]

    def render(self, turns: Sequence[Turn]) -> str:
        """Return the prompt of a conversation, the generation prompt included.

        Raises:
            UnsupportedError: the template takes no images, and the processor names no token for them; or it
                refuses the conversation, e.g. for a role that it does not know.
        """
        return self._apply([{"role": role, "content": self._content(parts)} for role, parts in turns])

    def _content(self, parts: Sequence[Part]) -> Any:
        if self.style != "text":
            return _listed(parts)
        if None in parts and not self.image_token:
            raise UnsupportedError(f"the chat template of {self.name} takes no images", hint="add --text-only")
        return "".join(self.image_token if part is None else part for part in parts)

    def _apply(self, messages: list[dict[str, Any]]) -> str:
        template = self.processor.chat_template
        dated = {"chat_template": _DAY + template} if isinstance(template, str) and "strftime_now" in template else {}
        try:
            rendered: str = self.processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, **dated
            )
        except TemplateError as error:
            roles = ", ".join(str(message["role"]) for message in messages)
            raise UnsupportedError(
                f"the chat template of {self.name} refuses a conversation of {roles}: {reason_of(error)}"
            ) from error
        return rendered


def _listed(parts: Sequence[Part]) -> list[dict[str, str]]:
    return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
