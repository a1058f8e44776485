"""Where LongRoPE turns: the rotary embedding of a batch changes once its longest prompt passes a bound."""

from typing import Any


def longrope_bound(text_config: Any) -> int | None:
    """Return the longest prompt, in tokens, that LongRoPE (Phi) embeds by its factors for short ones.

    A prompt on the other side must run apart: the class picks the factors by the longest row of a batch.
    None where length does not change the rotary embedding, which is so for most models.

    Args:
        text_config: the configuration of the decoder.
    """
    rope = getattr(text_config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return None
    own = getattr(text_config, "original_max_position_embeddings", None)
    bound = rope.get("original_max_position_embeddings") or own
    return int(bound) if bound else None
