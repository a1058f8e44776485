"""The engine on a GPU: kept answers are those of `generate()`, alone and in a crowd, and scores agree with a CPU's."""

import checkpoints
import pytest
import torch
from PIL import Image
from served import answer, asked, drawn_router, engine_on, running

from relope.extract.model.backbone import open_backbone

LAYER = 4
TEXTS = ("What colour is the object?", "How many circles are there?", "Which bar is the tallest of them all? Why?")


@pytest.fixture(scope="module", params=checkpoints.CLASSES)
def folder(request, tmp_path_factory):
    checkpoints.check_needs(request.param)
    return str(checkpoints.make(request.param, tmp_path_factory.mktemp("m") / request.param))


def queries(backbone, **settings):
    colours = ("red", None, "blue")
    sees = backbone.traits.sees_images
    return [
        asked(text, *([Image.new("RGB", (48, 40), colour)] if sees and colour else []), **settings)
        for text, colour in zip(TEXTS, colours, strict=True)
    ]


def served(folder, device, method):
    backbone = open_backbone(folder, device, "float32")
    asked_for = queries(backbone, max_new_tokens=8, threshold=0.0)
    with running(engine_on(backbone, drawn_router(method, backbone, LAYER), LAYER)) as engine:
        alone = [answer(engine.submit(query)) for query in asked_for]
        crowd = [answer(ticket) for ticket in [engine.submit(query) for query in asked_for * 2]]
        sampled = [
            answer(engine.submit(asked("x", route="small", max_new_tokens=4, temperature=1.0, seed=3)))[2]
            for _ in range(2)
        ]
    return alone, crowd, sampled


@pytest.mark.parametrize("method", ["probe", "attention-probe", "relope"])
def test_a_crowd_changes_nothing_and_scores_are_those_of_a_cpu(folder, method):
    alone, crowd, sampled = served(folder, "cuda", method)
    theirs, _, _ = served(folder, "cpu", method)
    assert [ids for _, _, ids, _ in crowd] == [ids for _, _, ids, _ in alone] * 2
    assert sampled[0] == sampled[1]
    scores, others = (torch.tensor([decision.score for decision, *_ in each]) for each in (alone, theirs))
    assert (scores - others).abs().max() <= 1e-2


def test_posthoc_reads_the_answer(folder):
    alone, _, _ = served(folder, "cuda", "posthoc")
    assert all(0 <= decision.score <= 1 for decision, *_ in alone)
