"""LongRoPE's bound, as extraction cuts batches by it and replay cuts rows."""

from types import SimpleNamespace

import pytest
from transformers import Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from relope.rope import longrope_bound


def test_the_bound_is_where_the_library_changes_its_factors():
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [3.0] * 8}
    config = Phi3Config(
        hidden_size=32,
        num_attention_heads=2,
        max_position_embeddings=64,
        original_max_position_embeddings=24,
        rope_parameters=rope,
    )
    bound = longrope_bound(config)
    assert bound == 24
    frequencies = {n: ROPE_INIT_FUNCTIONS["longrope"](config, "cpu", seq_len=n)[0].tolist() for n in (1, 24, 25, 64)}
    assert frequencies[1] == frequencies[bound] != frequencies[bound + 1] == frequencies[64]


@pytest.mark.parametrize("rope", [None, {}, {"rope_type": "default"}, {"full_attention": {"rope_type": "default"}}])
def test_other_models_have_none(rope):
    assert longrope_bound(SimpleNamespace(rope_parameters=rope, original_max_position_embeddings=24)) is None
    assert longrope_bound(SimpleNamespace()) is None
