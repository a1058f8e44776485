"""From a query to what the small model reads: its turns, its tokens and pixels, and several of them as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relope.errors import InvalidInputError, UnsupportedError
from relope.extract.data.prompts import read
from relope.extract.data.turns import Part, Turn
from relope.extract.model.backbone import Backbone
from relope.serve.engine import Message, Query, Reason


@dataclass(frozen=True)
class Prompt:
    """A query as the small model reads it.

    Attributes:
        inputs: of the model, a batch of one.
        question: of the last turn, without its options.
        choices: the options that it lists.
        limit: most tokens that may be answered.
        far: whether the prompt is beyond what rotary embeddings are as for short ones; kept apart from those.
    """

    inputs: dict[str, Tensor]
    question: str
    choices: tuple[str, ...]
    limit: int
    far: bool

    @property
    def ids(self) -> Tensor:
        """``[1, T]`` tokens."""
        return self.inputs["input_ids"]

    @property
    def n_tokens(self) -> int:
        """T."""
        return self.ids.shape[1]

    @property
    def image_shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and shape, but for its first number, of what holds its images; empty without any."""
        apart = ((name, given) for name, given in self.inputs.items() if given.shape != self.ids.shape)
        return tuple(sorted((name, tuple(given.shape[1:])) for name, given in apart))

    def goes_with(self, others: "Sequence[Prompt]") -> bool:
        """Return whether it can be read in one batch with others, which go with each other."""
        shapes = {shape for prompt in (self, *others) if (shape := prompt.image_shapes)}
        return len(shapes) <= 1 and all(prompt.far == self.far for prompt in others)


class Unservable(Exception):
    """Why the small model cannot serve a query."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Say why, in a word and in a sentence without a word of the query."""
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def check_shape(query: Query, sees_images: bool, name: str) -> tuple[Reason, str] | None:
    """Return why a query cannot be put to a model as far as its shape tells, or None.

    Raises:
        InvalidInputError: no conversation, or a number out of its range: nobody could answer it.
    """
    if not query.messages or query.messages[-1].role != "user":
        raise InvalidInputError("a conversation must end with a turn of the user")
    if query.max_new_tokens < 1 or not 0 <= query.temperature <= 100 or not 0 < query.top_p <= 1:
        raise InvalidInputError(
            f"max_new_tokens must be at least 1, temperature in 0–100 and top_p in (0, 1] (got {query.max_new_tokens}, "
            f"{query.temperature:g}, {query.top_p:g})"
        )
    if any(not stop for stop in query.stop):
        raise InvalidInputError("a stop text is empty")
    if not sees_images and any(not isinstance(part, str) for message in query.messages for part in message.parts):
        return "no-images", f"{name} sees no images, or its router has learned from captions"
    if any(not isinstance(part, str) for message in query.messages if message.role != "user" for part in message.parts):
        return "template", "images stand in turns of the user only"
    return None


def prompt_of(backbone: Backbone, query: Query) -> Prompt:
    """Return a query as the model reads it; the same prompt as an extraction would make of its words.

    Raises:
        Unservable: it cannot be put to this model.
    """
    turns = _turns(backbone, query)
    fault = next(backbone.turn_faults([turns]))
    if fault:
        raise Unservable("control-token" if "its text holds" in fault else "template", fault)
    images = [part.convert("RGB") for message in query.messages for part in message.parts if not isinstance(part, str)]
    try:
        inputs = backbone.encoded([backbone.chat.render(turns)], [images])
    except UnsupportedError as error:
        raise Unservable("template", str(error)) from error
    question, choices = read(_last_text(query.messages[-1]))
    return _within(backbone, query, Prompt(inputs, question, choices, query.max_new_tokens, far=False))


def folded_of(backbone: Backbone, query: Query) -> list[int]:
    """Return the tokens of such a prompt as its text has them: one for each image."""
    return backbone.folded_text(backbone.chat.render(_turns(backbone, query)))


def _turns(backbone: Backbone, query: Query) -> list[Turn]:
    return [(message.role, pieces_of(message, backbone.chat.style)) for message in query.messages]


def _within(backbone: Backbone, query: Query, prompt: Prompt) -> Prompt:
    """Return the prompt with what of the answer fits behind it.

    Raises:
        Unservable: it is longer than the context, or its answer might cross the bound of the rotary embedding, where
            what was read has to be read again.
    """
    n, context, bound = prompt.n_tokens, backbone.traits.context, backbone.traits.rope_bound
    if context is not None and n >= context:
        raise Unservable("too-long", f"a prompt of {n:,} tokens leaves no room in the {context:,} of {backbone.name}")
    limit = query.max_new_tokens if context is None else min(query.max_new_tokens, context - n)
    if bound is not None and n <= bound < n + limit:
        raise Unservable(
            "too-long",
            f"{n:,} tokens and {limit:,} of an answer cross the {bound:,} where {backbone.name} turns to "
            "its long context",
        )
    return replace(prompt, limit=limit, far=bound is not None and n > bound)


def pieces_of(message: Message, style: str) -> list[Part]:
    """Return a turn in pieces that the template can show, None for an image; neighbouring texts are one."""
    images = sum(not isinstance(part, str) for part in message.parts)
    if style == "first":
        return [*[None] * images, _last_text(message)]
    pieces: list[Part] = []
    for part in message.parts:
        text = part if isinstance(part, str) else None
        if text is not None and pieces and pieces[-1] is not None:
            pieces[-1] += text
        else:
            pieces.append(text)
    return pieces or [""]


def _last_text(message: Message) -> str:
    return "".join(part for part in message.parts if isinstance(part, str))


def collated(prompts: Sequence[Prompt], pad: int) -> dict[str, Tensor]:
    """Return prompts of one kind as one left-padded batch, as their processor would make it of them.

    Args:
        prompts: that go with each other.
        pad: token that stands before the shorter ones.
    """
    if len(prompts) == 1:
        return dict(prompts[0].inputs)
    width = max(prompt.n_tokens for prompt in prompts)
    names = dict.fromkeys(name for prompt in prompts for name in prompt.inputs)
    return {name: _together(prompts, name, width, pad if name == "input_ids" else 0) for name in names}


def _together(prompts: Sequence[Prompt], name: str, width: int, fill: int) -> Tensor:
    pairs = [(prompt.ids, prompt.inputs.get(name)) for prompt in prompts]
    if any(given is not None and given.shape != ids.shape for ids, given in pairs):
        return torch.cat([given for _, given in pairs if given is not None])
    full = [torch.zeros_like(ids) if given is None else given for ids, given in pairs]
    return torch.cat([torch.nn.functional.pad(row, (width - row.shape[1], 0), value=fill) for row in full])
