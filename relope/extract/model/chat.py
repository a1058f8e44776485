"""A question in the words of a model's chat template, its images where the text mentions them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from relope.errors import UnsupportedError
from relope.extract.model.interfaces import Processor

Part = str | None
"""A piece of a turn: text, or None where an image stands."""

_DAY = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}"
"""Put before a template that writes today's date (Llama 3's), so that prompts last. Choice: the template's default."""

_TAG = re.compile(r"<image (\d{1,3})>")
_BEFORE, _AFTER = "0123456789", "9876543210"


def split_at_images(text: str, n_images: int) -> list[Part]:
    """Cut a turn where its images stand, in the order of the sample's images.

    An image stands where ``<image 1>``, ``<image 2>``, … first mentions it; later mentions stay as
    text. Images that are not all mentioned, in their order, come before the text as it is.
    """
    first: dict[int, re.Match[str]] = {}
    for tag in _TAG.finditer(text):
        if 1 <= int(tag[1]) <= n_images:
            first.setdefault(int(tag[1]), tag)
    if list(first) != list(range(1, n_images + 1)):
        return [*[None] * n_images, text]
    parts: list[Part] = []
    end = 0
    for tag in first.values():
        parts += [text[end : tag.start()], None]
        end = tag.end()
    return [part for part in (*parts, text[end:]) if part != ""]


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
        except (TypeError, TemplateError):
            return "text"
        if "'type'" in rendered:  # the list itself, spelt out
            return "text"
        between = rendered.partition(_BEFORE)[2].partition(_AFTER)[0]
        return "parts" if between.strip() else "first"

    def parts(self, text: str, n_images: int) -> list[Part]:
        """Return a turn's pieces as this template can show them."""
        return [*[None] * n_images, text] if self.style == "first" else split_at_images(text, n_images)

    def render(self, turns: Sequence[tuple[str, Sequence[Part]]]) -> str:
        """Return the prompt of a conversation, the generation prompt included.

        Args:
            turns: role and pieces of each.

        Raises:
            UnsupportedError: the template takes no images, and the processor names no token for them.
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
        rendered: str = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **dated
        )
        return rendered


def _listed(parts: Sequence[Part]) -> list[dict[str, str]]:
    return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
