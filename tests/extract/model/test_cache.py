"""The roomy cache holds what transformers' own does, whatever is done to it, and its copies grow apart."""

import copy
import itertools

import pytest
import torch
from checkpoints import make
from transformers import GenerationConfig
from transformers.cache_utils import DynamicLayer

from relope.extract.model.backbone import open_backbone
from relope.extract.model.cache import RoomyLayer, cache_name, repeated, roomy_cache, share


def states(*shape):
    return torch.randn(*shape), torch.randn(*shape)


def same(one, other):
    return torch.equal(one.keys, other.keys) and torch.equal(one.values, other.values)


@pytest.mark.parametrize("room", [0, 2, 100])
def test_equals_the_layer_of_transformers(room):
    torch.manual_seed(0)
    ours, theirs = RoomyLayer(room), DynamicLayer()
    for width in (5, 1, 1, 3, 1):
        new = states(2, 3, width, 4)
        for one, other in zip(ours.update(*new), theirs.update(*new), strict=True):
            assert torch.equal(one, other)
        assert ours.get_seq_length() == theirs.get_seq_length()
    for change in (
        lambda layer: layer.crop(-2),
        lambda layer: layer.reorder_cache(torch.tensor([1, 0])),
        lambda layer: layer.batch_repeat_interleave(3),
        lambda layer: layer.batch_select_indices(torch.tensor([4, 0])),
    ):
        change(ours)
        change(theirs)
        new = states(len(theirs.keys), 3, 1, 4)
        ours.update(*new)
        theirs.update(*new)
        assert same(ours, theirs)


def test_a_step_copies_no_earlier_state():
    layer = RoomyLayer(4)
    layer.update(*states(1, 2, 6, 3))
    place = layer.keys.data_ptr()
    for _ in range(4):
        layer.update(*states(1, 2, 1, 3))
        assert layer.keys.data_ptr() == place
    layer.update(*states(1, 2, 1, 3))
    assert layer.keys.shape == (1, 2, 11, 3) and layer.keys.data_ptr() != place


def test_copies_grow_apart(tmp_path):
    model = open_backbone(str(make("llama", tmp_path / "m")), "cpu", "float32").model
    cache = roomy_cache(model, 8)
    assert all(type(layer) is RoomyLayer for layer in cache.layers)
    new = states(2, 2, 5, 16)
    cache.update(*new, 0)
    twin, thrice = share(cache), repeated(cache, 3, 8)
    kept = copy.deepcopy(twin.layers[0])
    for one in (cache, twin, share(twin)):
        one.update(*states(2, 2, 1, 16), 0)
    thrice.update(*states(6, 2, 1, 16), 0)
    assert torch.equal(cache.layers[0].keys[..., :5, :], kept.keys)
    assert torch.equal(twin.layers[0].keys[..., :5, :], kept.keys)
    assert torch.equal(thrice.layers[0].keys[..., :5, :], kept.keys.repeat_interleave(3, 0))
    last = [one.layers[0].keys[0, 0, 5] for one in (cache, twin, thrice)]
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(last))


def test_generate_answers_the_same_with_it(tmp_path):
    model = open_backbone(str(make("llama", tmp_path / "m")), "cpu", "float32").model
    ids = torch.randint(5, 200, (3, 20))
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    said = [
        model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False, **{cache_name(model): cache})
        for cache in (None, roomy_cache(model, 12), roomy_cache(model, 3))
    ]
    assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])


def test_a_checkpoint_that_asks_for_a_static_cache_gets_ours(tmp_path):
    folder = make("gemma3-text", tmp_path / "m")
    GenerationConfig.from_pretrained(folder, cache_implementation="static").save_pretrained(folder)
    model = open_backbone(str(folder), "cpu", "float32").model
    assert model.generation_config.cache_implementation is None
    ids = torch.randint(5, 200, (1, 6))
    model.generate(ids, max_new_tokens=2, do_sample=False, **{cache_name(model): roomy_cache(model, 2)})
