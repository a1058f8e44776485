"""`POST /v1/chat/completions` over real HTTP: the unmodified `openai` SDK and curl, kept and escalated."""

import asyncio
import json
import shutil
import subprocess

import httpx
import openai
import pytest
from upstream_stub import ANSWER

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAA"
    "DUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def said(text, role="user"):
    return {"role": role, "content": text}


@pytest.fixture
def client(serving):
    url, service, state = serving()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as sdk:
        sdk.service, sdk.state, sdk.url = service, state, url
        yield sdk


def test_a_kept_query_is_answered_by_the_small_model(client):
    raw = client.chat.completions.with_raw_response.create(
        model="any", messages=[said("score=0.8 hello")], max_tokens=9
    )
    answer = raw.parse()
    assert answer.model == "tiny-small" and answer.choices[0].message.content == "small: score=0.8 hello [0 images, 9]"
    assert answer.choices[0].finish_reason == "stop" and answer.usage.prompt_tokens == 2
    assert raw.headers["x-relope-route"] == "small" and raw.headers["x-relope-reason"] == "score"
    assert raw.headers["x-relope-score"] == "0.800000" and raw.headers["x-relope-threshold"] == "0.5"
    assert raw.headers["x-relope-bundle"] == "f" * 12 and raw.headers["x-relope-request-id"].startswith("req_")
    assert not client.state.seen


def test_an_escalated_query_is_passed_on_without_the_client_s_credentials(client):
    raw = client.chat.completions.with_raw_response.create(
        model="any", messages=[said("score=0.2 hello")], temperature=0.5, seed=3, extra_body={"metadata": {"a": "b"}}
    )
    answer = raw.parse()
    assert answer.model == "big" and answer.choices[0].message.content == ANSWER
    assert raw.headers["x-relope-route"] == "large" and raw.headers["x-relope-reason"] == "score"
    path, headers, body = client.state.seen[0]
    assert path == "/v1/chat/completions" and headers["authorization"] == "Bearer sk-of-the-operator"
    assert body == {
        "model": "big", "messages": [said("score=0.2 hello")], "temperature": 0.5, "seed": 3, "metadata": {"a": "b"}
    }  # fmt: skip
    assert "unused" not in json.dumps([headers, body])


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize(("text", "model", "whole"), [
    ("score=0.9 hi", "tiny-small", "small: score=0.9 hi [0 images, 4096]"), ("score=0.1 hi", "big", ANSWER + " "),
])  # fmt: skip
def test_streams(client, text, model, whole, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(client.chat.completions.create(model="any", messages=[said(text)], stream=True, **options))
    assert {chunk.model for chunk in chunks} == {model}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [usage]
    finishes = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert finishes[-1] == "stop" and not any(finishes[:-1])


def test_the_async_client_and_images_and_turns(client):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{client.url}/v1", api_key="x", max_retries=0) as sdk:
            parts = [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
            messages = [said("be short", "developer"), said("hi"), said("ho", "assistant"), said(parts)]
            whole = await sdk.chat.completions.create(model="m", messages=messages, max_completion_tokens=7, stop=["x"])
            stream = await sdk.chat.completions.create(model="m", messages=messages, stream=True)
            return whole, [chunk async for chunk in stream]

    whole, chunks = asyncio.run(ask())
    assert whole.choices[0].message.content == "small: be shorthihowhat [1 images, 7]" and len(chunks) > 3
    query = client.service.engine.queries[0]
    assert [message.role for message in query.messages] == ["system", "user", "assistant", "user"]
    assert query.messages[3].parts[1].size == (1, 1) and query.messages[3].parts[1].mode == "RGB"
    assert query.stop == ("x",) and query.temperature == 0 and query.threshold is None


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not here")
def test_curl(client):
    body = json.dumps({"model": "m", "messages": [said("score=0.7 x")], "stream": True})
    done = subprocess.run(
        ["curl", "-sN", f"{client.url}/v1/chat/completions", "-H", "content-type: application/json", "-d", body],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert done.stdout.endswith("data: [DONE]\n\n") and '"content":"small: "' in done.stdout


def test_litellm(client):
    litellm = pytest.importorskip("litellm", reason="litellm is not in the test extra: it pins openai")
    answer = litellm.completion(
        model="openai/any", api_base=f"{client.url}/v1", api_key="x", messages=[said("score=0.8 hello")]
    )
    assert answer.model.endswith("tiny-small")


def test_models_health_ready_metrics_and_the_page(client):
    assert [model.id for model in client.models.list()] == ["relope", "tiny-small", "big"]
    client.chat.completions.create(model="any", messages=[said("score=0.3 a")])
    assert httpx.get(f"{client.url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{client.url}/ready").status_code == 200
    metrics = httpx.get(f"{client.url}/metrics").text
    assert 'relope_requests_total{reason="score",route="large"} 1.0' in metrics and "relope_threshold 0.5" in metrics
    page = httpx.get(client.url)
    assert page.status_code == 200 and "100.0 %" in page.text and "script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_score_decides_and_answers_nothing(client):
    one = httpx.post(f"{client.url}/v1/relope/score", json={"messages": [said("score=0.2 a")]}).json()
    assert (one["route"], one["score"], one["reason"], one["threshold"]) == ("large", 0.2, "score", 0.5)
    several = {"requests": [{"messages": [said(f"score={s}")]} for s in (0.1, 0.6)]}
    several["requests"].append({"messages": [said("a")], "tools": [{"type": "function"}]})
    data = httpx.post(f"{client.url}/v1/relope/score", json=several).json()["data"]
    assert [each["route"] for each in data] == ["large", "small", "large"] and data[2]["reason"] == "tools"
    assert len({each["request_id"] for each in data}) == 3 and not client.state.seen
    assert all(query.score_only for query in client.service.engine.queries)
    wrong = httpx.post(f"{client.url}/v1/relope/score", json={"requests": [{"messages": []}]})
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "requests.0"


@pytest.mark.parametrize(("extra", "reason"), [
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"), ({"n": 2}, "n"),
    ({"response_format": {"type": "json_object"}}, "response_format"), ({"logprobs": True}, "logprobs"),
    ({"frequency_penalty": 0.5}, "field"), ({"messages": [said("a"), said("b", "assistant")]}, "last-turn"),
    ({"messages": [said([{"type": "input_audio", "input_audio": {}}])]}, "input_audio"),
    ({"messages": [said("too long")]}, "too-long"), ({"messages": [said("blind")]}, "no-images"),
    ({"messages": [said("dies")]}, "engine-error"), ({"messages": [said("breaks-at-once")]}, "engine-error"),
    ({"messages": [said("a"), {"role": "tool", "content": "x", "tool_call_id": "y"}, said("b")]}, "tools"),
])  # fmt: skip
def test_what_the_small_model_cannot_do_goes_to_the_large_one(client, extra, reason):
    body = {"messages": [said("score=0.9 a")], **extra}
    answer = httpx.post(f"{client.url}/v1/chat/completions", json=body)
    assert answer.status_code == 200 and answer.json()["model"] == "big"
    assert answer.headers["x-relope-route"] == "large" and answer.headers["x-relope-reason"] == reason
    assert client.state.seen[0][2] == {**body, "model": "big"}


@pytest.mark.parametrize("field", [{"n": 1}, {"tools": []}, {"response_format": {"type": "text"}}, {"logprobs": False},
                                   {"frequency_penalty": 0}, {"user": "u"}, {"store": True}])  # fmt: skip
def test_what_changes_nothing_stays(client, field):
    answer = httpx.post(f"{client.url}/v1/chat/completions", json={"messages": [said("a")], **field})
    assert answer.json()["model"] == "tiny-small"
