"""Shadow mode, sessions, metrics, drift, the page, and an end that loses nothing."""

import asyncio
import json
import threading
import time

import httpx
import numpy as np
import pytest
from made_bundle import made_bundle
from stub_engine import StubEngine
from upstream_stub import served, until

from relope.serve.chat import read_request
from relope.serve.drift import History, drift, psi
from relope.serve.engine import EngineError
from relope.serve.limits import Limits
from relope.serve.policy import Settings
from relope.serve.sessions import Sessions, is_continued, session_key
from relope.steps.live_log import read_live


def ask(url, *texts, headers=None, **fields):
    roles = ("user", "assistant")
    messages = [{"role": roles[k % 2], "content": text} for k, text in enumerate(texts)]
    return httpx.post(f"{url}/v1/chat/completions", json={"messages": messages, **fields}, headers=headers, timeout=20)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("shadow", "model"), [("small", "tiny-small"), ("large", "big")])
@pytest.mark.parametrize("stream", [False, True])
def test_shadow_mode_decides_and_lets_one_side_answer(serving, tmp_path, shadow, model, stream):
    path = tmp_path / "d.jsonl"
    url, _, _ = serving(policy=Settings(shadow=shadow), log=path)
    for text in ("score=0.1", "score=0.9"):
        answer = ask(url, text, stream=stream)
        assert model in answer.text and answer.headers["x-relope-reason"] == "shadow"
    assert until(lambda: len(read_lines(path)) == 2)
    assert sorted((line["score"], line["decided"], line["route"]) for line in read_lines(path)) == [
        (0.1, "large", shadow), (0.9, "small", shadow)
    ]  # fmt: skip
    assert 'relope_decided_total{route="large"} 1.0' in httpx.get(f"{url}/metrics").text


def test_the_large_model_s_answer_does_not_wait_for_the_shadow(serving, tmp_path):
    path = tmp_path / "d.jsonl"
    url, _, _ = serving(StubEngine(delay_s=1.0), policy=Settings(shadow="large"), log=path)
    began = time.perf_counter()
    assert ask(url, "score=0.1").json()["model"] == "big" and time.perf_counter() - began < 0.8
    assert until(lambda: path.read_text() != "") and read_lines(path)[0]["decided"] == "large"


def test_a_conversation_that_was_escalated_stays(serving):
    url, service, _ = serving(session_ttl_s=100.0)
    first = ask(url, "score=0.1 I ask")
    assert first.headers["x-relope-reason"] == "score"
    assert ask(url, "score=0.1 I ask", "so", "score=0.9").headers["x-relope-reason"] == "session"
    assert ask(url, "score=0.9 another", "so", "score=0.9").headers["x-relope-route"] == "small"
    assert ask(url, "score=0.1 I ask", user="u").headers["x-relope-reason"] == "score", "a first turn is decided anew"
    named = {"x-relope-session": "mine"}
    assert ask(url, "score=0.9", headers=named).headers["x-relope-route"] == "small"
    ask(url, "score=0.1", headers=named)
    assert ask(url, "score=0.9 anything", headers=named).headers["x-relope-reason"] == "session"
    assert all(len(key) == 64 for key in service.sessions._until)


def test_first_turns_of_the_same_words_are_requests_of_their_own(serving, tmp_path):
    """What one prompt's requests come to is a part of the traffic, and no single sample of it."""
    path = tmp_path / "d.jsonl"
    url, _, _ = serving(log=path)
    for texts, headers in ((["score=0.9"], {}),) * 3 + ((["score=0.9", "so", "on"], {}),) * 2 + (
        (["score=0.9"], {"x-relope-session": "mine"}),
    ) * 2:  # fmt: skip
        ask(url, *texts, headers=headers)
    assert until(lambda: len(read_lines(path)) == 7)
    live = read_live(path, None, "f" * 12)
    assert len(set(live.groups[:3].tolist())) == 3 and len(set(live.groups.tolist())) == 5


def test_sessions_end_and_do_not_grow():
    clock = [0.0]
    sessions = Sessions(10, most=3, now=lambda: clock[0])
    sessions.keep("a")
    clock[0] = 9
    assert sessions.escalated("a") and not sessions.escalated("") and not sessions.escalated("b")
    sessions.keep("b")
    clock[0] = 11
    assert not sessions.escalated("a") and sessions.escalated("b")
    for key in "cdefg":
        sessions.keep(key)
    assert len(sessions) == 3
    off = Sessions(0)
    off.keep("a")
    assert not off.escalated("a")


def test_what_a_conversation_is_known_by():
    def key(*texts, named="", **fields):
        roles = ("user", "assistant")
        messages = [{"role": roles[k % 2], "content": text} for k, text in enumerate(texts)]
        return session_key(named, read_request({"messages": messages, **fields}, Limits()))

    assert key("a") == key("a", "b", "c") != key("b")
    assert key("a", user="u") == key("a", "b", "c", user="u") != key("a")
    assert key("a", named="s") == key("b", named="s") != key("b", named="t")
    request = read_request({"messages": [{"role": "user", "content": "a"}]}, Limits())
    assert not is_continued(request)


def test_psi_and_the_two_samples_by_hand():
    reference = np.arange(1000) / 1000
    same, shifted = drift(list(reference), list(reference)), drift(list(reference**4), list(reference))
    assert same.psi == pytest.approx(0, abs=1e-9) and same.ks == 0 and same.p_value == pytest.approx(1)
    assert shifted.psi > 0.25 and shifted.p_value < 1e-6
    assert psi(np.array([0.1] * 3 + [0.9]), np.array([0.1, 0.1, 0.9, 0.9]), bins=2) == pytest.approx(
        (0.75 - 0.5) * np.log(0.75 / 0.5) + (0.25 - 0.5) * np.log(0.25 / 0.5)
    )
    assert drift([0.5] * 99, list(reference)) is None and drift(list(reference), []) is None
    assert np.isfinite(psi(np.zeros(200), np.zeros(200))), "ties make one bin"


def test_the_day_of_scores_forgets_by_the_hour():
    clock = [0.0]
    history = History(now=lambda: clock[0])
    history.add(0.0)
    history.add(1.0)
    history.add(float("nan"))
    clock[0] = 23 * 3600
    history.add(0.51)
    assert sum(history.last_day()) == 3 and history.last_day()[10] == 1
    clock[0] = 24 * 3600 + 1
    assert sum(history.last_day()) == 1 and len(history.newest()) == 3


def test_metrics_and_page_show_drift(serving):
    url, service, _ = serving()
    for score in np.linspace(0, 1, 200) ** 3:
        service.history.add(float(score))
    metrics = httpx.get(f"{url}/metrics").text
    values = dict(line.split(" ") for line in metrics.splitlines() if line.startswith("relope_drift"))
    assert float(values["relope_drift_psi"]) > 0.25 and float(values["relope_drift_ks_p_value"]) < 0.01
    page = httpx.get(url).text
    assert "PSI" in page and 'class="bad">Drift' in page and "share escalated at most 50 %" in page
    service.set_threshold(0.7)
    assert "set by hand" in httpx.get(url).text and "share escalated at most" not in httpx.get(url).text


def test_names_cannot_write_into_the_page(large):
    from relope.serve.large import LargeModel
    from relope.serve.service import Options, Service

    model = LargeModel(base_url=large[0], name="<script>alert(1)</script>")
    with served(Service(made_bundle(), StubEngine(), model, Options())) as url:
        assert "<script" not in httpx.get(url).text


def test_until_the_engine_runs_the_large_model_answers(large):
    from relope.serve.large import LargeModel
    from relope.serve.service import Options, Service

    class Slow(StubEngine):
        async def start(self):
            await asyncio.sleep(1.0)

    service = Service(made_bundle(), Slow(), LargeModel(base_url=large[0], name="big"), Options())
    with served(service) as url:
        assert httpx.get(f"{url}/health").status_code == 200 and httpx.get(f"{url}/ready").status_code == 503
        assert ask(url, "score=0.9").headers["x-relope-reason"] == "engine-starting"
        assert until(lambda: httpx.get(f"{url}/ready").status_code == 200)
        assert ask(url, "score=0.9").headers["x-relope-route"] == "small"


def test_an_engine_that_cannot_start_ends_the_server(large):
    from relope.serve.access import Access
    from relope.serve.large import LargeModel
    from relope.serve.server import Server
    from relope.serve.service import Options, Service

    class Broken(StubEngine):
        async def start(self):
            raise EngineError("the model is another one")

    service = Service(made_bundle(), Broken(), LargeModel(base_url=large[0], name="big"), Options())
    server = Server(service, Access(), "127.0.0.1", 0, lambda url: None)
    with pytest.raises(EngineError, match="another one"):
        server.serve_until_told()


def test_the_end_waits_for_what_is_under_way(large, tmp_path):
    from relope.serve.access import Access
    from relope.serve.large import LargeModel
    from relope.serve.server import Server
    from relope.serve.service import Options, Service

    options = Options(log=tmp_path / "d.jsonl")
    service = Service(made_bundle(), StubEngine(piece_s=0.2), LargeModel(base_url=large[0], name="big"), options)
    started, found = threading.Event(), []
    server = Server(service, Access(), "127.0.0.1", 0, lambda url: (found.append(url), started.set()))
    thread = threading.Thread(target=server.serve_until_told)
    thread.start()
    assert started.wait(10)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(found[0], "score=0.9 one two three", stream=True)))
    asking.start()
    assert until(lambda: service.engine.live)
    server.should_exit = True
    asking.join(10)
    thread.join(10)
    assert answers[0].text.endswith("data: [DONE]\n\n") and "4096" in answers[0].text
    assert read_lines(tmp_path / "d.jsonl")[0]["ended"] == "done" and service.engine.dead


def test_feedback_is_logged_beside_its_request(serving, tmp_path):
    path = tmp_path / "d.jsonl"
    url, _, _ = serving(log=path)
    about = {"request_id": ask(url, "score=0.9").headers["x-relope-request-id"], "correct": False}
    assert httpx.post(f"{url}/v1/relope/feedback", json=about).json()["request_id"] == about["request_id"]
    assert until(lambda: len(read_lines(path)) == 2)
    lines = {line["kind"]: line for line in read_lines(path)}
    assert lines["feedback"]["correct"] is False and lines["feedback"]["request_id"] == lines["decision"]["request_id"]
    assert lines["decision"]["prompt_tokens"] == 1 and lines["decision"]["total_ms"] > 0


def test_feedback_needs_a_log(serving):
    url, _, _ = serving()
    answer = httpx.post(f"{url}/v1/relope/feedback", json={"request_id": "req_" + "0" * 24, "correct": True})
    assert answer.status_code == 409


def test_an_engine_that_serves_nothing_any_more_is_seen_and_the_large_model_takes_all(serving):
    engine = StubEngine()
    url, _, _ = serving(engine)
    assert httpx.get(f"{url}/ready").status_code == 200 and "relope_ready 1.0" in httpx.get(f"{url}/metrics").text
    engine.faulty = True
    ready = httpx.get(f"{url}/ready")
    assert (ready.status_code, ready.text) == (503, '{"status": "engine-error"}\n')
    assert httpx.get(f"{url}/health").status_code == 200 and "relope_ready 0.0" in httpx.get(f"{url}/metrics").text
    answer = ask(url, "score=0.9")
    assert (answer.json()["model"], answer.headers["x-relope-reason"]) == ("big", "engine-error")
    assert "The small model does not answer (engine-error)" in httpx.get(f"{url}/").text
    assert engine.queries == []
