"""Positions found without running a model are those that it runs with."""

import pytest
import torch
from PIL import Image

from relope.extract.model.backbone import open_backbone, open_skeleton
from relope.extract.model.capture import Tap
from tests.helpers.checkpoints import CLASSES, make


@pytest.mark.parametrize("name", CLASSES)
def test_a_skeleton_finds_the_positions_that_the_model_has(name, tmp_path):
    folder = str(make(name, tmp_path / name, blocks=2))
    backbone, skeleton = open_backbone(folder, "cpu", "float32"), open_skeleton(folder, "cpu", "float32")
    images = [Image.new("RGB", (48, 40), "red")] if backbone.traits.sees_images else []
    for shown in (images, []):
        said = backbone.chat.render([("user", [*[None] * len(shown), "What colour is it?"])])
        inputs = backbone.encoded([said], [shown])
        tap = Tap(backbone.model, [1], backbone.traits.end_ids, stop=False, keep=False)
        with tap, torch.inference_mode():
            backbone.model.generate(**inputs, max_new_tokens=1, do_sample=False)
        n = inputs["input_ids"].shape[1]
        expected = tap.positions if tap.positions is not None else torch.arange(n)[None, None]
        assert torch.equal(skeleton.positions(inputs), expected.expand(skeleton.traits.position_rows, -1, -1))
