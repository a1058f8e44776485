"""The engine vllm before a stand-in of its server: as the engine transformers, and what it does where that fails."""

import threading
import time

import numpy as np
import pytest
from made_bundle import calibrated
from PIL import Image

from relope.errors import InvalidInputError, OutputError
from relope.extract.data.open import open_dataset
from relope.extract.data.turns import prompt_text
from relope.serve.engine import EngineError, EngineSettings, Message, Query, open_engine
from relope.vllm.states import StatesError
from tests.helpers.served import answer, asked, decision_of, pieces_of, running
from tests.helpers.vllm_stub import vllm_stub

BEFORE = {
    "probe": {"head": "logistic"},
    "relope": {"epochs": 1, "z": 8},
    "attention-probe": {"epochs": 1, "pool": "image"},
}
AFTER = {
    "question-confidence": {},
    "logprob": {},
    "entropy": {},
    "posthoc": {"epochs": 1},
    "kernel-posthoc": {},
    "cascade-logprob": {},
    "fusion": {"folds": 2, "methods": "kernel-probe"},  # which reads states of the prompt, after the answer
}
METHODS = BEFORE | AFTER
UNTRAINED = ("logprob", "entropy")


@pytest.fixture(scope="module")
def bundles(store_path, tmp_path_factory):
    """Give a function that returns the bundle of a method, made once."""
    out, made = tmp_path_factory.mktemp("bundles"), {}

    def bundle(method):
        if method not in made:
            made[method] = calibrated(store_path, method, out, fitted=method not in UNTRAINED, **METHODS[method])
        return made[method]

    return bundle


@pytest.fixture
def served(backbone, bundles, tmp_path):
    """Give a function that opens the engine of a method's bundle in front of a stand-in: the engine and its state."""
    from contextlib import ExitStack

    from relope import steps
    from relope.spec import build

    with ExitStack() as stack:

        def start(method="probe", **settings):
            bundle, folder = bundles(method), tmp_path / "states"
            facts = steps.run(build("vllm-command", {"bundle": bundle})).facts
            url, state = stack.enter_context(vllm_stub(backbone, folder, [facts["name"]], facts["layers"]))
            made = EngineSettings(**{"url": url, "states": str(folder), "device": "cpu", **settings})
            return open_engine("vllm", bundle, made), state

        yield start


def queries(n=12, **settings):
    some = open_dataset("tiny").load("test", n)
    return [
        Query(
            messages=(
                Message("user", (*(image.open().convert("RGB") for image in one.images), prompt_text(one, False))),
            ),
            **{"max_new_tokens": 12, **settings},
        )
        for one in some
    ]


@pytest.mark.parametrize("method", METHODS)
def test_it_decides_and_answers_as_the_engine_transformers(served, bundles, method):
    asked_for = queries()
    with running(open_engine("transformers", bundles(method), EngineSettings(device="cpu"))) as engine:
        expected = [answer(ticket) for ticket in [engine.submit(query) for query in asked_for]]
    engine, state = served(method)
    with running(engine):
        told = [answer(ticket) for ticket in [engine.submit(query) for query in asked_for]]
        idle(engine)
        counters = engine.counters()
    assert np.abs([one[0].score - other[0].score for one, other in zip(told, expected, strict=True)]).max() <= 1e-5
    assert [(one[0].route, one[0].reason, one[0].n_answer_tokens, *one[1:]) for one in told] == [
        (one[0].route, one[0].reason, one[0].n_answer_tokens, *one[1:]) for one in expected
    ]
    assert all((one[0].n_answer_tokens > 0) == (method in AFTER) for one in told)
    routes = [one[0].route for one in told]
    assert counters.decided == {"small": routes.count("small"), "large": routes.count("large")}
    assert counters.failed == 0 and list(state.folder.iterdir()) == []
    streamed, tried = sum(bool(body.get("stream")) for body in state.bodies), int(method in AFTER)
    assert streamed - tried == (routes.count("small") if method in BEFORE else 12), "what is escalated is not answered"
    assert len({*routes}) == 2 or method in AFTER
    reread = sum("token_ids" in body for body in state.bodies)
    assert reread == (13 if method in ("posthoc", "kernel-posthoc", "fusion") else 0), "one is tried at the start"


@pytest.mark.parametrize("method", ["cascade-logprob", "fusion"])
def test_what_a_stop_text_cuts_off_is_not_judged(served, bundles, method):
    asked_for = [query for text in ("e", "r") for query in queries(4, stop=(text,), score_only=True)]
    with running(open_engine("transformers", bundles(method), EngineSettings(device="cpu"))) as engine:
        expected = [decision_of(engine.submit(query)).score for query in asked_for]
    engine, state = served(method)
    with running(engine):
        told = [answer(engine.submit(query)) for query in asked_for]
        wished = answer(engine.submit(asked("is it red ?", max_new_tokens=4, route="small")))
    assert np.abs(np.array(expected) - [decision.score for decision, *_ in told]).max() <= 1e-5
    assert not any(ids for _, _, ids, _ in told) and wished[0].score is None and wished[1]
    assert all("stop" not in body for body in state.bodies)


def test_a_server_that_tells_too_little_of_an_answer_is_refused_at_the_start(served):
    engine, state = served("entropy")
    state.most_logprobs = 3
    with pytest.raises(EngineError, match="fewer log-probs than it was asked for"):
        engine.open()
    engine, state = served("entropy")
    state.hides_prompt = True
    with pytest.raises(EngineError, match="as 0 tokens that are not the"):
        engine.open()


def idle(engine):
    until = time.monotonic() + 10
    while (now := engine.counters()).waiting or now.deciding or now.answering:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_several_turns_and_images_are_put_to_the_server_as_they_are_read_here(served):
    red, blue = Image.new("RGB", (56, 56), "red"), Image.new("RGB", (56, 56), "blue")
    query = Query(
        messages=(
            Message("system", ("be brief",)),
            Message("user", ("what is", red, "and", blue, "?")),
            Message("assistant", ("red",)),
            Message("user", ("sure ?",)),
        ),
        max_new_tokens=4,
        route="small",
    )
    engine, state = served()
    with running(engine):
        decision, _, ids, finish = answer(engine.submit(query))
    assert decision.reason == "forced" and decision.score is not None and finish and len(ids) <= 4
    parts = [part["type"] for part in state.bodies[-1]["messages"][1]["content"]]
    assert parts == ["text", "image_url", "text", "image_url", "text"]


def test_a_stop_text_ends_the_answer_and_the_server_s_work(served):
    engine, state = served()
    with running(engine):
        whole = answer(engine.submit(asked("is it red ?", max_new_tokens=40, route="small")))
        stop = whole[1].split()[-1]
        told = answer(engine.submit(asked("is it red ?", max_new_tokens=40, route="small", stop=(stop,))))
    assert whole[1].startswith(told[1]) and stop not in told[1] and told[3] == "stop"
    assert all("stop" not in body for body in state.bodies)


def test_what_the_server_cannot_do_is_an_error_of_the_engine_and_goes_to_the_large_model(served):
    engine, state = served()
    with running(engine):
        for fault, why in {
            "garbage": "could not write states",
            "other_tokens": "tokens that are not the",
            "status": r"refused the query \(status 400\)",
        }.items():
            before = getattr(state, fault)
            setattr(state, fault, 400 if fault == "status" else True)
            decision = decision_of(engine.submit(asked("is it red ?")))
            with pytest.raises(EngineError, match=why):
                decision_of(engine.submit(asked("is it red ?", route="small")))
            setattr(state, fault, before)
            assert (decision.route, decision.reason) == ("large", "engine-error") and engine.fault() is None
        assert decision_of(engine.submit(asked("is it red ?"))).reason == "score"
        assert engine.counters().failed == 6
        long = decision_of(engine.submit(asked("red " * 300)))
    assert (long.route, long.reason) == ("large", "too-long")


@pytest.mark.parametrize("tells_error", [False, True])
def test_a_server_that_breaks_off_is_told_and_comes_back(served, tells_error, monkeypatch):
    from relope.serve.engines import vllm

    monkeypatch.setattr(vllm, "_LOOK_S", 0.05)
    engine, state = served()
    with running(engine):
        state.tells_error, state.breaks_at = tells_error, 1
        ticket = engine.submit(asked("is it red ?", max_new_tokens=8, route="small"))
        assert decision_of(ticket).route == "small"
        with pytest.raises(EngineError, match="broke off"):
            list(pieces_of(ticket))
        state.breaks_at, state.dead = None, True
        until = time.monotonic() + 10
        while engine.fault() is None and time.monotonic() < until:
            time.sleep(0.01)
        assert engine.fault() == "engine-error"
        assert decision_of(engine.submit(asked("is it red ?"))).reason == "engine-error"
        state.dead = False
        while engine.fault() is not None and time.monotonic() < until:
            time.sleep(0.01)
        assert engine.fault() is None and decision_of(engine.submit(asked("is it red ?"))).reason == "score"


def test_who_hangs_up_ends_the_answer_at_the_server(served):
    engine, state = served()
    with running(engine):
        state.step.clear()
        ticket = engine.submit(asked("is it red ?", max_new_tokens=200, route="small"))
        assert decision_of(ticket).route == "small"
        ticket.cancel()
        state.step.set()
        until = time.monotonic() + 10
        while not ticket.over and time.monotonic() < until:
            time.sleep(0.01)
        idle(engine)
        assert engine.counters().cancelled == 1 and engine.counters().answer_tokens == 0


def test_it_stops_in_the_middle_of_an_answer(served):
    engine, state = served()
    engine.open()
    state.step.clear()
    ticket = engine.submit(asked("is it red ?", max_new_tokens=200, route="small"))
    assert decision_of(ticket).route == "small"
    state.step.set()
    engine.close(grace=0.0)
    with pytest.raises(EngineError):
        engine.submit(asked("is it red ?"))
    assert ticket.over
    engine.close()


def test_another_server_is_refused_at_the_start(served):
    engine, state = served()
    state.models = ["tiny-vl@000000000000"]
    with pytest.raises(InvalidInputError, match=r"needs a server of tiny-vl@\w{12}; http\S+ serves tiny-vl@0{12}"):
        engine.open()
    engine, state = served()
    state.other_tokens = True
    with pytest.raises(EngineError, match="tokens that are not the"):
        engine.open()
    engine, state = served()
    state.hands_over = False
    with pytest.raises(StatesError, match="hands no states over"):
        engine.open()
    engine, _ = served(url="http://127.0.0.1:1")
    with pytest.raises(OutputError, match="no vLLM server answers"):
        engine.open()
    with pytest.raises(InvalidInputError, match="asks a server that is there, or starts one"):
        served(url="")


def test_a_shorter_context_of_the_server_is_the_small_model_s(served):
    engine, state = served()
    state.context = 40
    with running(engine):
        assert decision_of(engine.submit(asked("red " * 60))).reason == "too-long"


def test_a_server_that_hangs_is_not_waited_for_beyond_the_end(served, caplog):
    engine, state = served()
    engine.open()
    state.hangs.set()
    tickets = [engine.submit(asked("is it red ?")) for _ in range(3)]
    assert until(lambda: len(state.bodies) == 4), "the prompt that is tried at the start, and three"
    tickets[0].cancel()
    began = time.monotonic()
    engine.close(grace=0.5)
    assert 0.5 <= time.monotonic() - began < 20
    assert all(ticket.over for ticket in tickets) and not caplog.records
    for ticket in tickets[1:]:
        with pytest.raises(EngineError, match="the engine stopped"):
            decision_of(ticket)


def test_who_has_hung_up_is_not_waited_for_at_the_end(served):
    engine, state = served()
    engine.open()
    state.hangs.set()
    ticket = engine.submit(asked("is it red ?"))
    assert until(lambda: len(state.bodies) == 2)
    ticket.cancel()
    began = time.monotonic()
    engine.close(grace=60)
    assert time.monotonic() - began < 20 and ticket.over


def test_it_is_ended_while_it_opens(served):
    engine, state = served()
    state.hangs.set()
    failed = []

    def opened():
        try:
            engine.open()
        except EngineError as error:
            failed.append(str(error))

    opening = threading.Thread(target=opened)
    opening.start()
    assert until(lambda: state.bodies)
    engine.close()
    opening.join(20)
    assert failed == ["the vLLM server does not answer (RemoteProtocolError)"]
    with pytest.raises(EngineError, match="the engine stopped"):
        engine.open()


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_it_starts_a_server_of_its_own_and_ends_it(served, monkeypatch):
    from relope.serve.engines import vllm

    engine, state = served()
    stub, started, ended = engine.settings.url, [], []

    class Started:
        log = "the log"

        def __init__(self, server, python):
            started.append((server, python))
            self.url = stub

        def wait(self, given_up):
            assert started and not given_up.is_set()

        def end(self):
            ended.append(True)

    monkeypatch.setattr(vllm, "Process", Started)
    own = open_engine("vllm", engine._folder, EngineSettings(python="py", states=str(state.folder), device="cpu"))
    with running(own):
        assert decision_of(own.submit(asked("is it red ?"))).reason == "score"
    ((server, python),) = started
    assert python == "py" and server.name == state.models[0] and server.folder == state.folder.resolve() and ended
