"""What we ask of transformers' models and processors, whose own annotations say less."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # whoever looks for a model's files alone need not load torch
    from torch import Tensor, nn

Model = Any
"""A ``PreTrainedModel``, whose annotations take ``generate`` for a tensor."""


class Decoder(Protocol):
    """The text decoder of a model."""

    layers: "nn.ModuleList"
    norm: "nn.Module"
    rotary_emb: "nn.Module"


class Tokenizer(Protocol):
    """A tokenizer, alone or within a processor."""

    bos_token: str | None
    chat_template: Any

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Mapping[str, list[int]]:
        """Return ``input_ids`` and more."""

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids."""

    def convert_ids_to_tokens(self, ids: int) -> str:
        """Return a token as it is written."""


class Processor(Protocol):
    """A processor, or the tokenizer of a text-only model."""

    chat_template: Any

    def __call__(self, *, text: Sequence[str], **settings: Any) -> "Mapping[str, Tensor]":
        """Return a batch."""

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **settings: Any) -> Any:
        """Return the prompt of a conversation."""
