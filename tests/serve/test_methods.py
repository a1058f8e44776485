"""What is served scores like `relope predict` on the same questions, before and after the answer."""

import numpy as np
import polars as pl
import pytest

from relope import steps
from relope.errors import UnsupportedError
from relope.extract.data.open import open_dataset
from relope.extract.data.turns import prompt_text
from relope.probes.router import load_router
from relope.serve.engine import Message, Query
from relope.spec import build
from tests.helpers.served import answer, drawn_router, engine_on, running

BEFORE = {
    "probe": {"epochs": 2},
    "attention-probe": {"epochs": 2, "pool": "image"},
    "relope": {"epochs": 2, "z": 16},
    "question-kind": {},
    "kernel-probe": {},
    "statistics-probe": {},
    "fusion-prefill": {"folds": 2},
}
AFTER = {
    "posthoc": {"epochs": 2},
    "kernel-posthoc": {},
    "cascade": {},
    "cascade-logprob": {},
    "question-confidence": {},
    "fusion": {"folds": 2},
}
UNTRAINED = ("logprob", "entropy", "perplexity")
WITHIN = {"methods": "relope", "folds": 2, "epochs": 6, "z": 8, "lora_lr": 1e-4}
SEVERAL = {
    "fusion-relope": ("fusion", WITHIN),
    "fusion-relopes": ("fusion", {**WITHIN, "folds": 3, "epochs": 20, "lora_lr": 1e-3, "members": 2}),
    "relopes": ("relope", {"epochs": 2, "z": 16, "members": 2}),
    "attention-probes": ("attention-probe", {"epochs": 2, "last": True, "members": 2}),
}
"""Stacks with block l in them, and means of several fits."""


def asked(sample, **settings):
    images = [image.open().convert("RGB") for image in sample.images]
    return Query(messages=(Message("user", (*images, prompt_text(sample, False))),), **settings)


@pytest.fixture(scope="module")
def samples():
    return open_dataset("tiny").load("test", 80)


@pytest.mark.parametrize("method", ["fusion-prefill", "fusion"])
def test_a_stack_of_several_layers_is_handed_each_of_them(backbone, deep_store_path, samples, tmp_path, method):
    given = {"folds": 2, "layers": "2,4", "methods": "kernel-probe,statistics-probe,question-kind"}
    check_scores(backbone, deep_store_path, samples, tmp_path, method, method, given)


@pytest.mark.parametrize("method", [*BEFORE, *AFTER, *UNTRAINED, *SEVERAL])
def test_scores_are_those_of_predict(backbone, store_path, samples, tmp_path, method):
    name, given = SEVERAL.get(method, (method, {**BEFORE, **AFTER}.get(method, {})))
    check_scores(backbone, store_path, samples, tmp_path, method, name, given)


def check_scores(backbone, store_path, samples, tmp_path, method, name, given):
    folder = method
    if method not in UNTRAINED:
        folder = str(
            steps.run(build("fit", {"method": name, "store": store_path, "set": given, "out": tmp_path / "r"})).path
        )
    scores = pl.read_parquet(
        steps.run(
            build("predict", {"router": folder, "store": store_path, "split": "test", "out": tmp_path / "s.parquet"})
        ).path
    )
    expected = dict(zip(scores["id"], scores["score"], strict=True))
    some = [sample for sample in samples if sample.id in expected][:12]
    router = load_router(folder)
    with running(engine_on(backbone, router, router.record.layer or 4)) as engine:
        tickets = [engine.submit(asked(sample, max_new_tokens=64, score_only=True)) for sample in some]
        told = [answer(ticket) for ticket in tickets]
    assert not any(ids for _, _, ids, _ in told), "the decision alone was asked for"
    served = np.array([decision.score for decision, *_ in told])
    assert np.abs(served - [expected[sample.id] for sample in some]).max() <= 1e-5
    assert len(set(np.round(served, 6))) > 3


def test_a_router_that_reads_the_answer_decides_after_it(backbone, samples):
    router, some = drawn_router("posthoc", backbone, 4), samples[:6]
    queries = [asked(sample, max_new_tokens=16) for sample in some]
    with running(engine_on(backbone, router, 4, threshold=0.0)) as engine:
        kept = [answer(ticket) for ticket in [engine.submit(query) for query in queries]]
        engine.threshold = 1.0
        escalated = [answer(engine.submit(query)) for query in queries[:2]]
    assert all(decision.route == "small" and ids and finish for decision, _, ids, finish in kept)
    assert [(decision.route, text) for decision, text, *_ in escalated] == [("large", "")] * 2
    assert escalated[0][0].score == pytest.approx(kept[0][0].score, abs=1e-5)
    written = [len(ids) for _, _, ids, _ in kept]
    assert [decision.n_answer_tokens for decision, *_ in [*kept, *escalated]] == [*written, *written[:2]]


def test_what_needs_sampled_answers_is_refused(backbone):
    with pytest.raises(UnsupportedError, match="self-consistency cannot be served: it needs --samples 5"):
        engine_on(backbone, drawn_router("self-consistency", backbone, 4), 4)
