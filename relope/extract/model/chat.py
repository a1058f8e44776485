"""A conversation in the words of a model's chat template, its images where the text mentions them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from relope.errors import UnsupportedError, reason_of
from relope.extract.data.turns import Part, Turn, split_at_images
from relope.extract.model.interfaces import Processor

_DAY = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}"
"""Put before a template that writes today's date (Llama 3's), so that prompts last. Choice: the template's default."""

_BEFORE, _AFTER = "0123456789", "9876543210"


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
