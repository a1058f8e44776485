"""The large side: asked again before the first byte, never after it; fail open in both directions, and why."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import openai
import pytest
from stub_engine import StubEngine
from upstream_stub import ANSWER, until

from relope.evaluate.numbers.costs import ModelCost
from relope.serve.access import Access
from relope.serve.breaker import Breaker, Purse
from relope.serve.large import LargeModel, Unavailable
from relope.serve.policy import Course, Facts, Settings, course, settle
from relope.serve.sse import Cutter
from relope.serve.upstream import Large
from relope.spec import ServeSpec
from relope.steps.serve import large_of
from relope.types import Usage

PRICE = ModelCost(dollars_per_million_prompt_tokens=1000.0, dollars_per_million_answer_tokens=2000.0)
USD = 0.011 + 0.008  # 11 tokens of a prompt, 4 of an answer


def ask(url, text="score=0.1", headers=None, **fields):
    body = {"messages": [{"role": "user", "content": text}], **fields}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=20)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["nothing", "500", "503", "429-short"])
def test_what_failed_before_the_first_byte_is_asked_again(serving, mode, stream):
    url, _, state = serving()
    state.modes = [mode]
    assert ANSWER.split()[1] in ask(url, stream=stream).text and len(state.seen) == 2
    assert state.seen[0][2] == state.seen[1][2]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("modes", "status", "code", "asked"), [
    (["nothing"] * 2, 503, "large_down", 2), (["500"] * 2, 502, "large_error", 2), (["html"], 502, "large_error", 1),
    (["429"], 429, "large_busy", 1), (["hang"], 503, "large_down", 1), (["401"], 502, "large_error", 1),
    (["cut-body"], 502, "large_error", 1), (["301"], 502, "large_error", 1),
])  # fmt: skip
def test_what_cannot_be_mended_is_told_in_openai_s_shape(serving, modes, status, code, asked, stream):
    url, service, state = serving(model={"timeout_s": 0.5})
    if modes == ["cut-body"] and stream:
        pytest.skip("a stream has no length")
    state.modes = list(modes)
    answer = ask(url, stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"], len(state.seen)) == (status, code, asked)
    assert "sk-of-the-operator" not in answer.text
    if status == 429:
        assert answer.headers["retry-after"] == "30"
    assert service.large.purse.under_way == 0 and service.large._turn._value == 64
    assert ask(url).json()["model"] == "big", "it goes on"


def answered_by(handler, **model):
    """What comes of a call where a function stands for the server."""

    async def called():
        large = Large(LargeModel(base_url="http://large/v1", name="big", **model))
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as large._client:
            answer = await large.ask({"messages": []})
            await answer.close()
            return answer, large.purse.last_hour

    return asyncio.run(called())


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_pause_is_the_client_s_to_wait_for(status):
    asked = []

    def busy(request):
        asked.append(request)
        return httpx.Response(status, headers={"retry-after": "60"}, json={"error": {"message": "later"}})

    with pytest.raises(Unavailable) as refused:
        answered_by(busy)
    assert refused.value.problem.headers == {"retry-after": "60"} and len(asked) == 1


def test_a_pause_is_also_a_date():
    told = []
    for wait in (format_datetime(datetime.now(UTC) + timedelta(hours=1)), "1.5", "soon", str(10**8)):
        with pytest.raises(Unavailable) as refused:
            answered_by(lambda _, wait=wait: httpx.Response(429, headers={"retry-after": wait}), retries=0)
        told.append(refused.value.problem.headers.get("retry-after"))
    assert 3590 <= int(told[0]) <= 3600 and told[1:] == ["2", None, None]


def test_azure_s_form_of_the_address_and_key_is_taken():
    seen = []

    def answers(request):
        seen.append(request)
        return httpx.Response(200, json={"choices": []})

    async def called(model):
        large = Large(model)
        async with httpx.AsyncClient(transport=httpx.MockTransport(answers)) as large._client:
            await (await large.ask({"messages": []})).close()
            await (await large.ask({"messages": []}, "Bearer client's")).close()

    spec = ServeSpec(bundle=Path("b"), large_base_url="https://me.openai.azure.com", large_model="gpt 4.1")
    asyncio.run(called(replace(large_of(spec), key="sk-operator")))
    base = "https://me.openai.azure.com/openai/deployments/gpt%204.1/chat/completions"
    assert {str(request.url) for request in seen} == {f"{base}?api-version=2024-10-21"}
    assert "authorization" not in seen[0].headers and seen[0].headers["api-key"] == "sk-operator"
    assert "api-key" not in seen[1].headers and seen[1].headers["authorization"] == "Bearer client's"


@pytest.mark.parametrize("usage", [{"prompt_tokens": 1 << 63, "completion_tokens": 3}, {"prompt_tokens": 4}])
def test_counts_beyond_64_bits_are_none(usage):
    told = Usage.told(usage)
    assert (told.prompt_tokens, told.completion_tokens) in {(None, 3), (4, None)}


@pytest.mark.parametrize("error", [httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectTimeout])
def test_a_connection_that_is_lost_is_tried_again(error):
    failures = [error("gone")]

    def lost(request):
        if failures:
            raise failures.pop()
        return httpx.Response(200, json={"choices": []})

    assert answered_by(lost)[0].status == 200


@pytest.mark.parametrize(("cached", "dollars"), [(6, 5 * 0.001 + 6 * 0.0001 + 4 * 0.002), (-6, USD), (True, USD)])
def test_cached_tokens_cost_what_the_price_list_says(cached, dollars):
    usage = {"prompt_tokens": 11, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": cached}}
    price = PRICE.model_copy(update={"dollars_per_million_cached_tokens": 100.0})
    _, spent = answered_by(lambda _: httpx.Response(200, json={"choices": [], "usage": usage}), price=price)
    assert spent == pytest.approx(dollars)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_events_are_cut_wherever_their_blocks_end(size):
    cut, sent = Cutter(), b"data: {}\r\n\r\n: alive\n\ndata: [DONE]\r\n\r\n"
    events = [event for at in range(0, len(sent), size) for event in cut(sent[at : at + size])]
    assert events == [b"data: {}\n\n", b": alive\n\n", b"data: [DONE]\n\n"] and cut.rest == b""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("modes", [["nothing"] * 2, ["500"] * 2, ["html"], ["429"]])
def test_the_small_model_takes_over_where_the_operator_allows(serving, modes, stream):
    from relope.serve.policy import Settings

    url, _, state = serving(policy=Settings(local_fallback=True))
    state.modes = list(modes)
    answer = ask(url, stream=stream)
    assert answer.status_code == 200 and "tiny-small" in answer.text
    assert answer.headers["x-relope-route"] == "small" and answer.headers["x-relope-reason"].startswith("large-")
    assert answer.headers["x-relope-score"] == "0.100000"


@pytest.mark.parametrize("modes", [["nothing"] * 2, []])
def test_a_request_that_the_small_model_takes_over_counts_once(serving, modes):
    """Whether the large model fails on it, or is left alone already; its images are read once, too."""
    engine = StubEngine()
    url, service, state = serving(engine, policy=Settings(local_fallback=True))
    state.modes = list(modes)
    for _ in range(0 if modes else 5):
        service.large.breaker.failed()
    assert ask(url).headers["x-relope-reason"] == "large-down" and len(engine.queries) == 2
    counted = set(httpx.get(f"{url}/metrics").text.splitlines())
    assert {"relope_score_count 1.0", 'relope_decided_total{route="large"} 1.0'} <= counted
    assert {f'relope_stage_seconds_count{{stage="{stage}"}} 1.0' for stage in ("intake", "decision")} <= counted
    assert service.history.newest() == [0.1] and 'relope_decided_total{route="small"} 1.0' not in counted


def test_a_shadow_whose_large_model_fails_counts_once_and_is_answered(serving, tmp_path):
    path = tmp_path / "d.jsonl"
    engine = StubEngine(delay_s=0.05)
    url, _, state = serving(engine, policy=Settings(shadow="large", local_fallback=True), log=path)
    state.modes = ["nothing"] * 2
    answer = ask(url)
    assert answer.json()["model"] == "tiny-small" and answer.headers["x-relope-route"] == "small"
    assert until(lambda: path.read_text() != "")
    assert "relope_score_count 1.0" in httpx.get(f"{url}/metrics").text and len(engine.queries) == 2


def test_what_only_the_large_model_can_do_has_no_fallback(serving):
    url, _, state = serving(policy=Settings(local_fallback=True))
    state.modes = ["500"] * 2
    assert ask(url, tools=[{"type": "function"}]).status_code == 502


def test_a_refusal_of_the_request_is_the_client_s_to_read(serving):
    url, _, state = serving()
    state.modes = ["400"]
    answer = ask(url)
    assert answer.status_code == 400 and answer.json()["error"]["message"] == "upstream 400" and len(state.seen) == 1


@pytest.mark.parametrize("mode", ["half", "no-end"])
def test_a_stream_that_breaks_off_says_so(serving, mode):
    url, service, state = serving()
    state.modes = [mode]
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as sdk,
        pytest.raises(openai.APIError) as error,
    ):
        messages = [{"role": "user", "content": "score=0.1"}]
        for _ in sdk.chat.completions.create(model="m", messages=messages, stream=True):
            pass
    assert "broke off" in str(error.value) and len(state.seen) == 1, "never asked again after a byte"
    assert until(lambda: service.large.purse.under_way == 0), "the server closes its side after the client's last event"


def test_a_small_answer_that_breaks_off_says_so(serving):
    url, _, state = serving()
    assert ask(url, "score=0.9 it breaks after a word").status_code == 502
    streamed = ask(url, "score=0.9 it breaks after a word", stream=True).text
    assert '"error"' in streamed.splitlines()[-2] and "[DONE]" not in streamed and not state.seen


def test_a_dead_engine_leaves_everything_to_the_large_model(serving):
    engine = StubEngine()
    url, _, _ = serving(engine)
    engine.dead = True
    answer = ask(url, "score=0.9")
    assert answer.json()["model"] == "big" and answer.headers["x-relope-reason"] == "engine-error"
    assert httpx.post(f"{url}/v1/relope/score", json={"messages": [{"role": "user", "content": "a"}]}).json()[
        "reason"
    ] == "engine-error"  # fmt: skip


def test_after_failures_in_a_row_it_is_left_alone(serving):
    url, service, state = serving(model={"retries": 0})
    state.modes = ["500"] * 5
    assert [ask(url).status_code for _ in range(7)] == [502] * 5 + [503] * 2 and len(state.seen) == 5
    service.large.breaker._rest_s = 0.0
    assert ask(url).status_code == 200 and not service.large.breaker.is_open


def test_dollars_are_counted_and_capped(serving):
    url, service, state = serving(
        model={"price": PRICE, "max_usd_per_hour": 2.5 * USD}, policy=Settings(), small_price=ModelCost(
            dollars_per_million_prompt_tokens=0.0, dollars_per_million_answer_tokens=0.0)
    )  # fmt: skip
    assert [ask(url).status_code for _ in range(2)] == [200, 200]
    refused = ask(url)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "large_budget"
    assert int(refused.headers["retry-after"]) > 3000 and len(state.seen) == 2
    assert service.large.purse.last_hour == pytest.approx(2 * USD)
    assert ask(url, "score=0.9 one two").status_code == 200
    metrics = httpx.get(f"{url}/metrics").text
    assert f'relope_spent_usd_total{{route="large"}} {2 * USD}' in metrics
    kept = 3 * 0.001 + 7 * 0.002  # its prompt and answer at the large model's prices
    assert service.saved_usd == pytest.approx(kept)


SMALL_PRICE = ModelCost(dollars_per_million_prompt_tokens=10.0, dollars_per_million_answer_tokens=100.0)


@pytest.mark.parametrize("n_read", [0, 7])
def test_an_escalated_request_costs_what_the_router_has_read(serving, tmp_path, n_read):
    """Of a router that reads the answer the small model has written it: 7 tokens, of a prompt of 2."""
    path = tmp_path / "d.jsonl"
    options = {"policy": Settings(local_fallback=True), "small_price": SMALL_PRICE, "log": path}
    url, _, state = serving(StubEngine(n_read=n_read), model={"price": PRICE}, **options)
    deciding = 2 * 0.00001 + n_read * 0.0001
    answering = 2 * 0.00001 + 6 * 0.0001  # the stub's answer has six words
    asked = [("score=0.1 one", []), ("score=0.9 one", []), ("score=0.1 one", ["500"] * 2)]
    for text, modes in asked:
        state.modes = list(modes)
        assert ask(url, text).status_code == 200
    assert until(lambda: len(path.read_text().splitlines()) == 3)
    paid = [json.loads(line)["usd"] for line in path.read_text().splitlines()]
    assert paid == pytest.approx([USD + deciding, answering, deciding + answering])
    spent = dict(line.split(" ") for line in httpx.get(f"{url}/metrics").text.splitlines() if line[0] != "#")
    assert float(spent['relope_spent_usd_total{route="large"}']) == pytest.approx(paid[0])
    assert float(spent['relope_spent_usd_total{route="small"}']) == pytest.approx(paid[1] + paid[2])


def test_usage_of_a_stream_is_asked_for_on_our_account_and_not_shown(serving):
    url, service, state = serving(model={"price": PRICE})
    answer = ask(url, stream=True)
    assert state.seen[0][2]["stream_options"] == {"include_usage": True} and "prompt_tokens" not in answer.text
    assert until(lambda: service.large.purse.last_hour == pytest.approx(USD))
    assert "prompt_tokens" in ask(url, stream=True, stream_options={"include_usage": True}).text


def test_credentials_are_passed_on_only_where_the_operator_says(serving):
    mine = {"authorization": "Bearer sk-of-the-client"}
    url, _, state = serving(forward_auth=True)
    ask(url, headers=mine)
    assert state.seen[0][1]["authorization"] == "Bearer sk-of-the-client"
    state.modes = ["401"]
    assert ask(url, headers=mine).status_code == 401, "the client's key, so the client's to know"


@pytest.mark.parametrize("key", ["key of this server", "key of its operator"])
def test_a_key_of_this_server_is_never_passed_on(serving, key):
    url, _, state = serving(access=Access("key of this server", "key of its operator"), forward_auth=True)
    assert ask(url, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert state.seen[0][1]["authorization"] == "Bearer sk-of-the-operator"


def test_calls_at_a_time_are_capped(serving):
    from concurrent.futures import ThreadPoolExecutor

    url, _, state = serving(model={"concurrent": 2, "queue_s": 0.2})
    state.pause_s = 0.6
    with ThreadPoolExecutor(4) as pool:
        codes = sorted(answer.status_code for answer in pool.map(lambda _: ask(url), range(4)))
    assert codes == [200, 200, 503, 503]


def test_a_breaker_lets_one_call_try():
    clock = [0.0]
    breaker = Breaker(failures=2, rest_s=10, now=lambda: clock[0])
    breaker.failed()
    assert breaker.begin() and not breaker.is_open
    breaker.failed()
    assert breaker.is_open and not breaker.begin()
    clock[0] = 11
    assert breaker.begin() and not breaker.begin(), "one at a time"
    breaker.failed()
    clock[0] = 20
    assert breaker.is_open
    clock[0] = 22
    assert breaker.begin()
    breaker.succeeded()
    assert breaker.begin() and breaker.begin()


def test_a_purse_forgets_after_an_hour():
    clock = [0.0]
    purse = Purse(1.0, now=lambda: clock[0])
    assert not purse.is_empty
    purse.spend(0.6)
    assert purse.is_empty, "the next may cost as much"
    clock[0] = 3601
    assert not purse.is_empty and purse.last_hour == 0
    purse.under_way = 1
    assert purse.is_empty, "what is under way counts"


UP, DOWN = "", "large-down"


@pytest.mark.parametrize(("facts", "down", "settings", "expected"), [
    (Facts(), UP, Settings(), Course("score", "score")),
    (Facts(beyond_small="tools"), UP, Settings(shadow="small"), Course("large", "tools")),
    (Facts(forced="large"), UP, Settings(), Course("large", "forced")),
    (Facts(escalated_before=True), UP, Settings(), Course("large", "session")),
    (Facts(escalated_before=True), DOWN, Settings(local_fallback=True), Course("small", "large-down")),
    (Facts(escalated_before=True), DOWN, Settings(), Course("large", "session")),
    (Facts(), UP, Settings(shadow="large"), Course("large", "shadow")),
    (Facts(), UP, Settings(shadow="large", local_fallback=True), Course("large", "shadow")),
])  # fmt: skip
def test_the_policy_calls_no_model(facts, down, settings, expected):
    assert course(facts, down, settings) == expected


def test_an_escalation_that_nobody_takes_stays():
    from relope.serve.engine import Decision

    away = Decision(route="large", threshold=0.5, reason="score", score=0.1)
    assert settle(away, UP, Settings()) == Course("large", "score")
    assert settle(away, DOWN, Settings(local_fallback=True)) == Course("small", "large-down")
    assert json.dumps(settle(away, DOWN, Settings()).reason) == '"score"'
