"""Kept answers are those of plain `generate()`, escalated queries stop at block l, and a crowd changes nothing."""

import gc
import time

import pytest
import torch
from PIL import Image
from transformers.cache_utils import DynamicCache

from relope.extract.model.backbone import open_backbone
from tests.helpers.checkpoints import CLASSES, make
from tests.helpers.served import answer, asked, decision_of, drawn_router, engine_on, pieces_of, running

LAYER = 4


@pytest.fixture(scope="module", params=CLASSES)
def backbone(request, tmp_path_factory):
    return open_backbone(str(make(request.param, tmp_path_factory.mktemp("m") / request.param)), "cpu", "float32")


def picture(colour, size=(48, 40)):
    return Image.new("RGB", size, colour)


def queries(backbone, **settings):
    sees = backbone.traits.sees_images
    shown = [[picture("red")], [], [picture("blue", (64, 32))], [picture("green"), picture("black")]]
    texts = [
        "What colour is the object?",
        "How many circles are there?",
        "Which bar is the tallest of them all? Why?",
        "x",
    ]
    return [asked(text, *(images if sees else []), **settings) for text, images in zip(texts, shown, strict=True)]


def plain(backbone, query, n):
    """What `generate()` says to one query alone."""
    said = [(m.role, [part if isinstance(part, str) else None for part in m.parts]) for m in query.messages]
    images = [part for m in query.messages for part in m.parts if not isinstance(part, str)]
    inputs = backbone.to_device(backbone.encoded([backbone.chat.render(said)], [images]))
    with torch.inference_mode():
        out = backbone.model.generate(**inputs, max_new_tokens=n, do_sample=False)
    ids = out[0, inputs["input_ids"].shape[1] :].tolist()
    ends = [index for index, token in enumerate(ids) if token in backbone.traits.end_ids]
    return ids[: ends[0]] if ends else ids


def test_alone_and_in_a_crowd_answers_are_those_of_generate(backbone):
    expected = [plain(backbone, query, 12) for query in queries(backbone)]
    asked_for = queries(backbone, max_new_tokens=12, route="small")
    with running(engine_on(backbone, drawn_router("relope", backbone, LAYER), LAYER)) as engine:
        alone = [answer(engine.submit(query)) for query in asked_for]
        crowd = [answer(ticket) for ticket in [engine.submit(query) for query in asked_for * 2]]
    assert [ids for _, _, ids, _ in alone] == expected
    assert [ids for _, _, ids, _ in crowd] == expected * 2
    scores = torch.tensor([decision.score for decision, *_ in alone])
    assert torch.tensor([decision.score for decision, *_ in crowd]).sub(scores.repeat(2)).abs().max() <= 1e-5
    assert [text for _, text, _, _ in alone] == [backbone.decode(ids) for ids in expected]


class Counted:
    """How many rows each block has run for, prompts and answers apart."""

    def __init__(self, backbone):
        self.prompt, self.answer = [0] * len(backbone.blocks), [0] * len(backbone.blocks)
        self.hooks = [block.register_forward_hook(self._note(number)) for number, block in enumerate(backbone.blocks)]

    def _note(self, number):
        def hook(module, args, output):
            states = output[0] if isinstance(output, tuple) else output
            (self.prompt if states.shape[1] > 1 else self.answer)[number] += len(states)

        return hook

    def remove(self):
        for hook in self.hooks:
            hook.remove()


def test_what_is_escalated_stops_at_block_l_also_in_a_batch_that_splits(backbone):
    asked_for = queries(backbone, max_new_tokens=12)
    router = drawn_router("probe", backbone, LAYER)
    with running(engine_on(backbone, router, LAYER)) as engine:
        scores = [answer(engine.submit(query))[0].score for query in asked_for]
    middle = sorted(scores)[1] + 1e-6
    expected = [plain(backbone, query, 12) for query in asked_for]
    with running(engine_on(backbone, router, LAYER, threshold=middle)) as engine:
        counted = Counted(backbone)
        told = [answer(ticket) for ticket in [engine.submit(query) for query in asked_for]]
        counted.remove()
        counters = engine.counters()
    kept = [number for number, score in enumerate(scores) if score >= middle]
    assert [decision.route for decision, *_ in told] == ["large" if score < middle else "small" for score in scores]
    assert counted.prompt == [4] * LAYER + [2] * (len(backbone.blocks) - LAYER)
    assert len(set(counted.answer)) == 1 and counted.answer[0] <= sum(max(0, len(expected[n])) for n in kept)
    for number, (_, _, ids, finish) in enumerate(told):
        assert ids == (expected[number] if number in kept else []) and (finish is None) == (number not in kept)
    assert counters.decided == {"small": 2, "large": 2} and counters.answer_tokens == sum(
        len(expected[n]) for n in kept
    )
    assert counters.waiting == counters.deciding == counters.answering == counters.failed == 0


def test_requests_that_come_while_others_are_answered_change_nothing(backbone):
    asked_for = queries(backbone, max_new_tokens=24, route="small")[:3]
    expected = [plain(backbone, query, 24) for query in asked_for]
    before = getattr(getattr(backbone.model, "model", None), "rope_deltas", None)
    with running(engine_on(backbone, drawn_router("probe", backbone, LAYER), LAYER)) as engine:
        tickets, pieces = [], []
        for query in asked_for:
            tickets.append(engine.submit(query))
            pieces.append(pieces_of(tickets[-1]))
            first = [next(one) for one in pieces[-1:]]  # it is being answered before the next one is asked
            pieces[-1] = (first, pieces[-1])
        told = [[token for piece in (*first, *rest) for token in piece.token_ids] for first, rest in pieces]
    assert told == expected
    assert getattr(getattr(backbone.model, "model", None), "rope_deltas", None) is before


def busy(counters):
    return counters.waiting + counters.deciding + counters.answering


def hooks_of(backbone):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in backbone.model.modules())


def test_nothing_is_left_behind(backbone):
    before = hooks_of(backbone)
    engine = engine_on(backbone, drawn_router("relope", backbone, LAYER), LAYER, threshold=0.5)
    with running(engine):
        tickets = [engine.submit(query) for query in queries(backbone, max_new_tokens=200)]
        tickets[0].cancel()
        next(iter(pieces_of(tickets[1])), None)
        tickets[1].cancel()
        for ticket in tickets[2:]:
            answer(ticket)
        while busy(engine.counters()):  # what was cancelled may still be read
            time.sleep(0.01)
        assert hooks_of(backbone) == before
    assert hooks_of(backbone) == before and engine.counters().answering == 0
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is DynamicCache]
    assert backbone.model.config.get_text_config()._attn_implementation == "sdpa"
    query = queries(backbone)[0]
    assert plain(backbone, query, 4) == plain(backbone, query, 4)


def test_a_prompt_beyond_the_turn_of_the_embedding_is_read_apart(tmp_path):
    backbone = open_backbone(str(make("phi4-multimodal", tmp_path / "phi", blocks=2)), "cpu", "float32")
    bound = backbone.traits.rope_bound
    longer, short = asked("x?" * 2100, max_new_tokens=4), asked("What is it?", max_new_tokens=8)
    expected = [plain(backbone, longer, 4), plain(backbone, short, 8)]
    with running(engine_on(backbone, drawn_router("relope", backbone, 1), 1, threshold=0.0)) as engine:
        told = [answer(ticket) for ticket in [engine.submit(query) for query in (longer, short, longer)]]
        near = asked("x?" * ((bound - told[1][0].n_prompt_tokens) // 2), max_new_tokens=40)
        crossing = decision_of(engine.submit(near))
    assert told[0][0].n_prompt_tokens > bound and [ids for _, _, ids, _ in told] == [*expected, expected[0]]
    assert (crossing.route, crossing.reason) == ("large", "too-long") and "turns to its long context" in crossing.detail


def test_where_image_features_are_added_behind_block_l_prompts_are_read_one_by_one(tmp_path):
    backbone = open_backbone(str(make("qwen3-vl", tmp_path / "qwen")), "cpu", "float32")
    asked_for = queries(backbone, max_new_tokens=8)
    expected = [plain(backbone, query, 8) for query in asked_for]
    with running(engine_on(backbone, drawn_router("relope", backbone, 2), 2, threshold=2.0)) as engine:
        scores = [answer(engine.submit(query))[0].score for query in asked_for]
        engine.threshold = sorted(scores)[2]
        told = [answer(ticket) for ticket in [engine.submit(query) for query in asked_for]]
    kept = [score >= sorted(scores)[2] - 1e-9 for score in scores]
    assert [ids for _, _, ids, _ in told] == [ids if keep else [] for ids, keep in zip(expected, kept, strict=True)]
