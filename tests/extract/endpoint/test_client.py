"""What the client makes of a server's words; and the stub, read by the package that everybody uses."""

import dataclasses
import sys
import time

import pytest
from openai_stub import Stub, key_of

from relope.errors import NotFoundError
from relope.extract.endpoint.address import open_endpoint
from relope.retry_after import asked_wait_s


def test_a_date_to_wait_for():
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    assert asked_wait_s(soon) == pytest.approx(60, abs=3)
    assert asked_wait_s("²") is None and asked_wait_s("") is None


def test_the_stub_streams_and_counts_as_the_client_reads_it():
    import openai

    messages = [{"role": "user", "content": "what?"}]
    with Stub({key_of(messages): "a red square"}) as stub:
        asked = openai.OpenAI(base_url=stub.url, api_key="x").chat.completions
        options = {"model": "m", "messages": messages, "stream_options": {"include_usage": True}}
        chunks = list(asked.create(**options, stream=True, logprobs=True, top_logprobs=2))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "a red square"
        assert chunks[-1].usage.completion_tokens == 3 and chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[1].choices[0].logprobs.content[0].token == "a "
        plain = asked.create(model="m", messages=messages)
        assert plain.choices[0].message.content == "a red square" and stub.counts[key_of(messages)] == 2


def test_an_answer_is_read_with_suspicion():
    from relope.extract.endpoint.reading import answer_of

    def document(content, logprobs=None, **more):
        return {"choices": [{"message": {"content": content, **more}, "logprobs": logprobs, "finish_reason": "stop"}]}

    token = {"token": "cat", "logprob": -0.1, "top_logprobs": [{"token": "cat", "logprob": -0.1}]}
    end = {"token": "<|im_end|>", "logprob": -0.01, "top_logprobs": [{"token": "x", "logprob": -0.01}]}
    assert answer_of(document("cat", {"content": [token, end]}), 0.1).logprobs == (-0.1,), "the end token is left out"
    assert answer_of(document("cat", {"content": [token]}), 0.1).logprobs == (-0.1,)
    for odd in ({"content": [{"token": "cat", "logprob": float("nan")}]}, {"content": ["x"]}, {"content": None}, []):
        assert answer_of(document("cat", odd), 0.1).logprobs is None
    bare = {key: value for key, value in token.items() if key != "top_logprobs"}
    answer = answer_of(document("cat", {"content": [bare]}), 0.1)
    assert answer.logprobs == (-0.1,) and answer.entropies is None
    assert answer_of(document(None, refusal="I cannot"), 0.1).text == "I cannot"
    usage = {"prompt_tokens": 5, "completion_tokens": -1, "prompt_tokens_details": {"cached_tokens": 4}}
    told = answer_of({**document("x"), "usage": usage}, 0.5).usage
    assert dataclasses.astuple(told) == (5, None, 4, 0.5, None)


def test_without_the_package_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(NotFoundError, match="need the package openai, which is not installed") as caught:
        open_endpoint("http://localhost:1/v1", "m", None)
    assert caught.value.hint == "pip install 'relope[endpoint]'"
