"""The engine vllm on a real server: decisions and answers of the engine transformers; what a killed server leaves."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from made_bundle import calibrated

from relope import steps
from relope.extract.data.open import open_dataset
from relope.extract.data.turns import prompt_text
from relope.serve.apart import scoring, server
from relope.serve.engine import EngineError, EngineSettings, Message, Query, open_engine
from relope.spec import build
from relope.vllm.tokens import FLAGS
from tests.helpers.served import answer, asked, decision_of, pieces_of, running

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def bundle(store_path, tmp_path_factory):
    return calibrated(store_path, "relope", tmp_path_factory.mktemp("bundle"), epochs=1, z=8)


@pytest.fixture(scope="module")
def handing(bundle, start_server):
    facts = steps.run(build("vllm-command", {"bundle": bundle})).facts
    checkpoint = facts["command"][facts["command"].index("--model") + 1]
    return start_server(checkpoint, facts["layers"], name=facts["name"])


def queries(n):
    return [
        Query(
            messages=(
                Message("user", (*(image.open().convert("RGB") for image in one.images), prompt_text(one, False))),
            ),
            max_new_tokens=12,
        )
        for one in open_dataset("tiny").load("test", n)
    ]


def test_200_questions_are_decided_and_answered_as_by_transformers(bundle, handing, left):
    process, made = handing
    with running(open_engine("transformers", bundle, EngineSettings(device="cpu"))) as engine:
        expected = [answer(ticket) for ticket in [engine.submit(query) for query in queries(200)]]
    settings = EngineSettings(url=process.url, states=str(made.folder), device="cpu")
    with running(open_engine("vllm", bundle, settings)) as engine:
        told = [answer(ticket) for ticket in [engine.submit(query) for query in queries(200)]]
    assert np.abs([one[0].score - other[0].score for one, other in zip(told, expected, strict=True)]).max() <= 1e-5
    assert [(one[0].route, *one[1:]) for one in told] == [(one[0].route, *one[1:]) for one in expected]
    assert {one[0].route for one in told} == {"small", "large"} and left(made.folder) == []


AFTER = {
    "posthoc": {"epochs": 1},
    "kernel-posthoc": {},
    "fusion": {"folds": 2, "methods": "kernel-probe,kernel-posthoc"},
    "cascade": {},
    "cascade-logprob": {},
    "question-confidence": {},
    "entropy": None,
    "logprob": None,
    "perplexity": None,
}


@pytest.fixture(scope="module")
def after(store_path, tmp_path_factory):
    """Bundles that decide after the answer, by method."""
    out = tmp_path_factory.mktemp("after")
    return {
        name: calibrated(store_path, name, out, fitted=given is not None, **(given or {}))
        for name, given in AFTER.items()
    }


def test_routers_that_read_the_answer_decide_after_it_as_by_transformers(after, start_server, left, monkeypatch):
    """All of them before one server, which hands over the union of the blocks that they read."""
    layers, worst = (3, 4, 6), {}
    for module in (server, scoring):
        monkeypatch.setattr(module, "layers_of", lambda probe, layer, depth: layers)
    facts = steps.run(build("vllm-command", {"bundle": after["kernel-posthoc"]})).facts
    words = facts["command"]
    more = [*FLAGS, *words[words.index("--max-logprobs") :][:2]]
    process, made = start_server(words[words.index("--model") + 1], layers, name=facts["name"], more=more)
    some = [replace(query, stop=("e",) if n % 4 == 3 else ()) for n, query in enumerate(queries(60))]
    for name, folder in after.items():
        with running(open_engine("transformers", folder, EngineSettings(device="cpu"))) as engine:
            expected = [answer(ticket) for ticket in [engine.submit(query) for query in some]]
        settings = EngineSettings(url=process.url, states=str(made.folder), device="cpu")
        with running(open_engine("vllm", folder, settings)) as engine:
            told = [answer(ticket) for ticket in [engine.submit(query) for query in some]]
        scores = np.array([[one[0].score, other[0].score] for one, other in zip(told, expected, strict=True)])
        worst[name] = float(np.abs(scores[:, 0] - scores[:, 1]).max())
        near = np.abs(scores[:, 1] - expected[0][0].threshold) <= 1e-5  # the threshold is the score of some question
        differing = [k for k, pair in enumerate(zip(told, expected, strict=True)) if not same(*pair)]
        assert near.sum() <= 2 and all(near[differing]), (name, differing)
        assert len(set(scores[:, 0])) > 3 and left(made.folder) == []
    process.end()
    assert max(worst.values()) <= 1e-5, worst


def same(one, other):
    return (one[0].route, *one[1:]) == (other[0].route, *other[1:])


def test_a_server_killed_in_the_middle_of_an_answer_is_told_and_the_large_model_takes_the_rest(bundle, handing, left):
    process, made = handing
    settings = EngineSettings(url=process.url, states=str(made.folder), device="cpu")
    with running(open_engine("vllm", bundle, settings)) as engine:
        ticket = engine.submit(asked("is it red ?", max_new_tokens=200, temperature=2.0, seed=1, route="small"))
        assert decision_of(ticket).route == "small"
        os.killpg(process._process.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="the vLLM server"):
            list(pieces_of(ticket))
        began = time.monotonic()
        decision = decision_of(engine.submit(asked("is it red ?")))
        assert (decision.route, decision.reason, engine.fault()) == ("large", "engine-error", "engine-error")
        assert time.monotonic() - began < 10
    assert left(made.folder) == []
