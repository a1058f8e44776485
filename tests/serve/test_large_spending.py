"""What the large model costs where nobody counts it, what holds its calls back, and who alone may let them go again."""

import asyncio
import contextlib
import json

import httpx
import pytest
from upstream_stub import ANSWER

from relope.evaluate.numbers.costs import ModelCost
from relope.serve.breaker import Breaker, Purse
from relope.serve.estimate import ANSWER_TOKENS, estimated_usd
from relope.serve.large import LargeModel, Unavailable
from relope.serve.upstream import Large

PRICE = ModelCost(dollars_per_million_prompt_tokens=1000.0, dollars_per_million_answer_tokens=2000.0)
BODY = {"messages": [], "max_tokens": 5}
USAGE = {"prompt_tokens": 11, "completion_tokens": 4}
USD = 0.011 + 0.008
ESTIMATE = len(json.dumps({**BODY, "model": "big"})) // 2 * 0.001 + 5 * 0.002


def calling(handler, work, **model):
    """What comes of some work with a large model whose server is a function."""

    async def run():
        large = Large(LargeModel(base_url="http://large/v1", name="big", price=PRICE, **model))
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as large._client:
            return await work(large)

    return asyncio.run(run())


def test_a_stream_may_begin_with_comments(serving):
    url, service, state = serving(model={"retries": 0})
    state.modes = ["comment"] * 6
    for _ in range(6):
        body = {"messages": [{"role": "user", "content": "score=0.1"}], "stream": True}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body)
        assert answer.status_code == 200 and ANSWER.split()[1] in answer.text and "[DONE]" in answer.text
    assert not service.large.breaker.is_open and len(state.seen) == 6


def test_a_stream_of_comments_alone_is_no_answer():
    async def work(large):
        with pytest.raises(Unavailable, match="gave no answer"):
            await large.ask({**BODY, "stream": True})
        return large.breaker._in_a_row

    assert calling(lambda _: httpx.Response(200, content=b": alive\n\n: alive\n\n"), work) == 1


@pytest.mark.parametrize(("first", "dollars"), [
    (httpx.ReadError("gone"), ESTIMATE + USD), (httpx.RemoteProtocolError("gone"), ESTIMATE + USD),
    (httpx.ConnectError("none"), USD), (httpx.WriteError("half"), USD), (httpx.PoolTimeout("full"), USD),
    (httpx.ReadTimeout("long"), ESTIMATE), (httpx.WriteTimeout("long"), 0.0),
    (500, USD), (503, USD), (429, USD), (504, ESTIMATE + USD), (502, ESTIMATE + USD), (400, 0.0), (401, 0.0),
])  # fmt: skip
def test_an_attempt_that_was_sent_costs_what_is_estimated(first, dollars):
    left = [first]

    def answers(request):
        told = left.pop() if left else 200
        if isinstance(told, Exception):
            raise told
        return httpx.Response(told, json={"choices": [], "usage": USAGE} if told == 200 else {})

    async def work(large):
        with contextlib.suppress(Unavailable):
            await large.ask(BODY)
        assert large.purse.under_way == 0
        return large.purse.last_hour

    assert calling(answers, work, retries=1) == pytest.approx(dollars)


@pytest.mark.parametrize("usage", [{}, {"usage": {"prompt_tokens": 4}}])
def test_an_answer_that_nobody_counts_costs_what_is_estimated(usage):
    async def work(large):
        await large.ask(BODY)
        return large.purse.last_hour

    assert calling(lambda _: httpx.Response(200, json={"choices": [], **usage}), work) == pytest.approx(ESTIMATE)


def test_a_client_that_hangs_up_costs_what_is_estimated():
    async def silent(request):
        await asyncio.sleep(60)

    async def work(large):
        asking = asyncio.create_task(large.ask(BODY))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert large._turn._value == 64 and large.purse.under_way == 0
        return large.purse.last_hour

    assert calling(silent, work) == pytest.approx(ESTIMATE)


def test_the_estimate_by_hand():
    def usd(body):
        return estimated_usd(PRICE, body, 100)

    assert usd(BODY) == pytest.approx(50 * 0.001 + 5 * 0.002)
    assert usd({"messages": []}) == pytest.approx(50 * 0.001 + ANSWER_TOKENS * 0.002)
    assert usd({"messages": [], "max_completion_tokens": 3, "n": 4}) == pytest.approx(50 * 0.001 + 12 * 0.002)
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "d" * 60, "detail": "low"}}]
    body = {"messages": [{"role": "user", "content": parts}, {"role": "user", "content": "b"}], "max_tokens": 5}
    assert usd(body) == pytest.approx((18 + 2000) * 0.001 + 5 * 0.002), "an image costs no letters: 63 of its own"
    assert estimated_usd(None, BODY, 100) == 0


def test_a_call_dearer_than_the_cap_shuts_the_others_out_for_an_hour():
    clock = [0.0]
    purse = Purse(0.5, now=lambda: clock[0])
    purse.spend(0.51)
    clock[0] = 3599.0
    assert purse.is_empty
    clock[0] = 3601.0
    assert not purse.is_empty
    purse.begin(0.1)
    assert purse.is_empty, "one goes; the next may cost as much as the last has"
    purse.under_way -= 1
    purse.spend(0.01)
    assert not purse.is_empty, "of the last hour the dearest has cost a cent"
    purse.spend(0.3)
    purse.spend(0.1)
    assert purse.is_empty, "0.41, and the next may cost 0.3"


def test_before_any_has_ended_calls_count_as_estimated():
    purse = Purse(1.0)
    purse.begin(0.4)
    assert not purse.is_empty
    purse.begin(0.4)
    assert purse.is_empty, "three may cost 1.2"


@pytest.mark.parametrize("spoils", ["purse", "breaker"])
def test_what_has_changed_while_it_waited_for_its_turn_holds_a_call_back(spoils):
    async def work(large):
        await large._turn.acquire()
        asking = asyncio.create_task(large.ask(BODY))
        await asyncio.sleep(0.02)
        if spoils == "purse":
            large.purse.spend(0.9)
        for _ in range(5 if spoils == "breaker" else 0):
            large.breaker.failed()
        large._turn.release()
        with pytest.raises(Unavailable) as refused:
            await asking
        assert large._turn._value == 1
        return refused.value.reason

    def answers(request):
        raise AssertionError("nothing is to be sent")

    expected = "large-budget" if spoils == "purse" else "large-down"
    assert calling(answers, work, concurrent=1, max_usd_per_hour=1.0) == expected


@pytest.mark.parametrize("status", [401, 402, 403, 429])
@pytest.mark.parametrize("forwarded", [False, True])
def test_a_client_s_own_key_shuts_nobody_else_out(status, forwarded):
    async def work(large):
        for _ in range(5):
            try:
                answer = await large.ask(BODY, "Bearer of-the-client" if forwarded else "")
                assert forwarded and answer.status == status
            except Unavailable:
                assert status == 429 or not forwarded
        return large.breaker.is_open

    assert calling(lambda _: httpx.Response(status, json={}), work, retries=0) is not forwarded


def test_a_client_s_key_does_not_close_what_failures_have_opened():
    async def work(large):
        large.breaker.failed()
        await large.ask(BODY, "Bearer of-the-client")
        return large.breaker._in_a_row

    assert calling(lambda _: httpx.Response(401, json={}), work) == 1


def test_only_the_trial_itself_ends_the_trial():
    clock = [0.0]
    breaker = Breaker(failures=1, rest_s=10, now=lambda: clock[0])
    early = breaker.begin()
    breaker.failed()
    clock[0] = 11.0
    trial = breaker.begin()
    breaker.ended(early)
    assert trial and not breaker.begin(), "a call from before has ended, and the trial goes on"
    breaker.ended(trial)
    again = breaker.begin()
    assert again and not breaker.begin(), "its client went away: another may try"
    breaker.succeeded()
    assert not breaker.is_open
