"""Which waiting requests are read together, and what a user's turn is taken apart into."""

import time

import pytest
import torch

from relope.extract.data.prompts import build, read
from relope.serve.engine import EngineSettings
from relope.serve.local.batches import Request, take
from relope.serve.local.prompts import Prompt, collated
from relope.serve.local.tickets import ThreadTicket
from tests.helpers.served import asked


def request(n, shape=None, far=False):
    inputs = {"input_ids": torch.full((1, n), 5), "attention_mask": torch.ones(1, n, dtype=torch.long)}
    inputs |= {"pixel_values": torch.zeros(2, *shape)} if shape else {}
    return Request(ThreadTicket(asked("?"), 0.5), Prompt(inputs, "?", (), 8, far), time.perf_counter())


def sizes(ready, rows=0, width=0, most=99, **settings):
    made = EngineSettings(**{"batch_tokens": 100, "max_rows": 8, "cache_tokens": 1000, **settings})
    return [ready.index(one) for one in take(ready, made, rows, width, most)]


def test_a_batch_holds_what_fits_with_its_padding_in_the_order_of_arrival():
    assert sizes([request(n) for n in (20, 30, 40, 10)]) == [0, 1, 3], "three of 30 fit, three of 40 do not"
    assert sizes([request(500), request(10)]) == [0], "a longer prompt is read alone"
    assert sizes([request(10) for _ in range(9)]) == list(range(8))
    assert sizes([request(10) for _ in range(9)], rows=6) == [0, 1]
    assert sizes([request(10) for _ in range(9)], rows=8) == []
    assert sizes([request(10) for _ in range(3)], most=1) == [0]


def test_what_is_held_bounds_what_joins_and_one_prompt_always_may():
    assert sizes([request(10)], rows=4, width=201) == [], "five of 201 tokens are more than 1,000"
    assert sizes([request(10)], rows=4, width=200) == [0]
    assert sizes([request(193)], rows=4, width=50) == [], (
        "it will have 193 + 8 tokens, and the others be padded to them"
    )
    assert sizes([request(192)], rows=4, width=50) == [0]
    assert sizes([request(13) for _ in range(4)], batch_tokens=1000, cache_tokens=63) == [0, 1, 2], "three of 13 + 8"
    assert sizes([request(5000)]) == [0]


def test_prompts_of_other_images_or_beyond_the_turn_of_the_embedding_wait():
    ready = [request(10, (3, 8)), request(10, (3, 9)), request(10), request(10, (3, 8)), request(10, far=True)]
    assert sizes(ready) == [0, 2, 3]
    assert sizes(ready[4:]) == [0]


def test_rows_are_padded_on_the_left_and_images_lie_one_after_another():
    batch = collated([request(2, (3,)).prompt, request(4).prompt, request(3, (3,)).prompt], pad=7)
    assert batch["input_ids"].tolist() == [[7, 7, 5, 5], [5, 5, 5, 5], [7, 5, 5, 5]]
    assert batch["attention_mask"].sum(1).tolist() == [2, 4, 3] and batch["pixel_values"].shape == (4, 3)


@pytest.mark.parametrize("choices", [(), ("red", "blue"), ("a\u2028b", "C. d", "")])
@pytest.mark.parametrize("question", ["What colour is it?", "Two\nlines: A. or B.?"])
@pytest.mark.parametrize("hint", ["", "Look twice."])
def test_a_turn_is_taken_apart_into_what_it_was_built_of(question, choices, hint):
    text = build(question, choices, hint)
    assert read(text) == ((question, choices) if choices else (text, ()))
    assert read("Question: x\nOptions:\nB. late\nend") == ("Question: x\nOptions:\nB. late\nend", ())
