"""A model that runs elsewhere: asked once a question, killed or not; nothing is kept that is no answer."""

import json

import numpy as np
import pytest
from asked_samples import answers_of
from openai_stub import BUSY, FILTERED, HALF, HANGS, HTML, HUGE, NO_MODEL, WRONG_KEY, Fault, Reply, Stub, key_of
from PIL import Image
from stepping import question, step, write_rows

from relope.errors import InvalidInputError, NotFoundError, OutputError, RelopeError, StoreError
from relope.extract.answer_journal import journal_path
from relope.extract.data.open import open_dataset
from relope.extract.endpoint import client
from relope.extract.endpoint.messages import messages_of
from relope.extract.view import View
from relope.store import open_store, verify

KEY = "sk-secret-of-this-test-4711"


@pytest.fixture(autouse=True)
def quick(monkeypatch, no_waits):
    monkeypatch.setenv("STUB_KEY", KEY)


@pytest.fixture
def data(tmp_path):
    """Twelve questions with a picture each, six of them tests."""
    return write_rows(tmp_path / "data", [question(number) for number in range(12)])


def extract(data, stub, **more):
    """Ask the stub about a data set."""
    fields = {"model": "gpt-4.1", "endpoint": stub.url, "dataset": data, "out": data.parent / "gpt.zarr"}
    return step("extract", **fields | {"api_key_env": "STUB_KEY", "workers": 4} | more)


def kept(data):
    """Return id → response of the store, and assert that it is whole."""
    path = data.parent / "gpt.zarr"
    if not path.exists():
        return {}
    assert verify(path, deep=True) == []
    return dict(open_store(path).samples.select("id", "response").iter_rows())


def test_answers_come_into_a_store_that_is_graded(data):
    with Stub(answers_of(data)) as stub:
        made = extract(data, stub)
        assert made.facts["computed"] == made.facts["requests"] == 12 and made.facts["accuracy"] == 1.0
        assert set(stub.counts.values()) == {1} and len(stub.counts) == 12
        path, headers, body = stub.requests[0]
        assert path == "/v1/chat/completions" and headers["authorization"] == f"Bearer {KEY}"
        assert body["temperature"] == 0 and body["model"] == "gpt-4.1" and body["logprobs"] is True
        assert extract(data, stub).reused and len(stub.requests) == 12
    store = open_store(made.path)
    assert store.manifest.answers_only and store.manifest.recorded["endpoint"].endswith("/v1/chat/completions")
    row = store.samples.row(0, named=True)
    assert row["prompt_tokens"] > 85 and row["completion_tokens"] == 1 and row["latency_s"] > 0
    assert row["answered_by"] == "stub-2026-01-01" and row["finish_reason"] == "stop"
    np.testing.assert_allclose(row["logprobs"], [np.log(0.9)])
    np.testing.assert_allclose(row["entropies"], [-0.9 * np.log(0.9) - 0.1 * np.log(0.1)])
    assert not journal_path(made.path).exists() and len(kept(data)) == 12
    for method in ("logprob", "perplexity", "entropy"):
        step("predict", router=method, store=made.path)


def test_the_store_grows_and_asks_only_what_is_new(data):
    with Stub(answers_of(data)) as stub:
        extract(data, stub, split="test", limit=2)
        assert len(stub.requests) == 2
        extract(data, stub, split="test")
        assert len(stub.requests) == 6
        extract(data, stub)
        assert len(stub.requests) == 12 and max(stub.counts.values()) == 1
    with pytest.raises(RelopeError, match="another recipe: model was"):
        extract(data, stub, model="gpt-4o")


def test_the_key_stands_nowhere(data, capfd):
    table = answers_of(data)

    def echoes(number, body):
        return None if number < 4 else Fault(401, {"error": f"bad key Bearer {KEY} of {KEY}"})

    with Stub(table, fault=echoes) as stub:
        with pytest.raises(OutputError, match="answered 401") as caught:
            extract(data, stub, workers=1)
        assert KEY not in caught.value.lines and KEY not in repr(caught.value.__cause__.args)
        for path in data.parent.rglob("*"):
            assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
        assert len(kept(data)) == 3
    with Stub(table) as stub:
        extract(data, stub)
        assert len(stub.requests) == 9
    for path in data.parent.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    said = capfd.readouterr()
    assert KEY not in said.out + said.err


WRONG = {
    "wrong key": (WRONG_KEY, r"answered 401 .*Incorrect API key"),
    "no such model": (NO_MODEL, r"answered 404 .*does not exist"),
    "429 storm": (BUSY, r"answered 429 .*Rate limit reached"),
    "no more money": (Fault(429, {"error": {"code": "insufficient_quota"}}), "answered 429 .*insufficient_quota"),
    "HTML": (HTML, r"sent no chat completion: '<!DOCTYPE html>"),
    "half a stream": (HALF, "cannot be reached: .*peer closed connection"),
    "5 MB": (HUGE, "sent no chat completion: it sent more than 4 MiB"),
    "hangs": (HANGS, r"has not answered within 0.5 s \(asked 2 times\)"),
    "drips": (Fault(200, delay_s=0.7, body={"choices": []}), "has not answered within 0.5 s"),
    "500": (Fault(500, {"error": "oops"}), "answered 500"),
    "no choices": (Fault(200, {"choices": []}), "sent no chat completion"),
    "a redirect": (
        Fault(302, {}, {"Location": "http://127.0.0.1:9/"}),
        r"answered 302 \w+, which leads to http://127.0.0.1:9/ and is",
    ),
    "an endless wait": (Fault(503, {}, {"Retry-After": "99999"}), "asks to wait for 99,999 s"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_goes_wrong_is_a_line_or_two_and_nothing_is_kept_wrongly(data, kind, monkeypatch):
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    fault, says = WRONG[kind]
    table = answers_of(data)
    with Stub(table, fault=lambda number, body: None if number <= 2 else fault) as stub:
        with pytest.raises(OutputError, match=says) as caught:
            extract(data, stub, workers=1, timeout=0.5)
        assert caught.value.lines.count("\n") <= 1 and len(caught.value.lines) < 600
        assert len(kept(data)) == 2
    with Stub(table) as stub:
        extract(data, stub)
        assert len(stub.requests) == 10 and len(kept(data)) == 12


def test_a_busy_server_is_waited_for(data, monkeypatch):
    slept = []
    monkeypatch.setattr(client.Manners, "pause", lambda self, seconds: slept.append(seconds))
    waits = {2: "3", 3: "0.5", 4: None}

    def busy(number, body):
        return Fault(429, {}, {"Retry-After": waits[number]} if waits[number] else {}) if number in waits else None

    with Stub(answers_of(data), fault=busy) as stub:
        made = extract(data, stub, workers=1)
        assert len(stub.requests) == 15 == made.facts["requests"] and len(kept(data)) == 12
    assert slept[0] == pytest.approx(3, abs=0.1) and 0.0 in slept


def test_a_refused_sample_is_skipped_counted_and_named(data):
    dataset = open_dataset(str(data))
    first, second = View().worded(dataset.load("test", 2))
    table = answers_of(data)
    table[key_of(messages_of(second, False, None))] = Reply("I", finish_reason="content_filter")
    refuses = key_of(messages_of(first, False, None))

    def fault(number, body):
        return FILTERED if key_of(body["messages"]) == refuses else None

    with Stub(table, fault=fault) as stub:
        made = extract(data, stub)
        assert made.facts["refused"] == 2 and made.facts["samples"] == 10 and len(kept(data)) == 10
        reasons = {flaw["id"]: flaw["reason"] for flaw in made.facts["skipped"]}
        assert set(reasons) == {first.id, second.id} and all("content_filter" in why for why in reasons.values())
        skipped = json.loads((data.parent / "gpt.zarr" / "skipped.json").read_text())["samples"]
        assert set(skipped) == {first.id, second.id} and "2 samples skipped" in made.text
        with pytest.raises(InvalidInputError, match="2 samples are refused"):
            extract(data, stub, strict=True)


def test_a_server_that_refuses_every_question_is_an_error(data):
    with Stub({}, fault=lambda number, body: Fault(400, {"error": "no such parameter"})) as stub:
        with pytest.raises(OutputError, match=r"no such parameter.*; it refused every question so far"):
            extract(data, stub, workers=1)
        assert len(stub.requests) <= 4 and kept(data) == {}


def test_what_a_server_does_not_know_is_left_out(data):
    def old(number, body):
        if "max_tokens" in body:
            return Fault(400, {"error": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."})
        return Fault(400, {"error": "logprobs is not supported"}) if "logprobs" in body else None

    with Stub(answers_of(data), fault=old) as stub:
        made = extract(data, stub, workers=1)
        assert len(stub.requests) == 14 and len(kept(data)) == 12
    assert open_store(made.path).samples["logprobs"].null_count() == 12
    with pytest.raises(NotFoundError, match="logprob needs the logprobs of each answer, which 6 of 6"):
        step("predict", router="logprob", store=made.path)


def test_what_a_server_refuses_is_learned_by_all_whom_it_refused_at_once(data):
    def old(number, body):
        if "max_tokens" in body:
            return Fault(400, {"error": "use 'max_completion_tokens' instead"}, delay_s=0.3)
        return Fault(400, {"error": "logprobs is not supported"}, delay_s=0.3) if "logprobs" in body else None

    with Stub(answers_of(data), fault=old) as stub:
        made = extract(data, stub, workers=4)
        assert stub.most_in_flight == 4 and len(stub.requests) == 12 + 2 * 4
    assert made.facts["refused"] == 0 and len(kept(data)) == 12


def test_where_every_question_is_filtered_the_server_is_heard_and_nothing_is_left(data):
    with Stub({}, fault=lambda number, body: FILTERED) as stub:
        with pytest.raises(OutputError, match=r"is answered, all 12 are refused: .* and 9 more: .*filtered"):
            extract(data, stub)
        assert not (data.parent / "gpt.zarr").exists() and not journal_path(data.parent / "gpt.zarr").exists()


def test_a_wait_is_told_once_and_why(data, caplog):
    busy = Fault(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, {"Retry-After": "0"})
    with Stub(answers_of(data), fault=lambda number, body: busy if number % 2 else None) as stub:
        extract(data, stub, workers=1)
    told = [record.getMessage() for record in caplog.records if "asked again" in record.getMessage()]
    assert told == [
        f"{stub.url}/chat/completions answered 429 No: slow down (rate_limit_exceeded); it is asked again in 0 s; "
        "further waits are not told"
    ]


def test_answers_that_say_nothing_since_they_were_cut_off_are_told(data, caplog):
    table = answers_of(data)
    table[next(iter(table))] = Reply("", finish_reason="length")
    with Stub(table) as stub:
        extract(data, stub, max_new_tokens=7)
    assert "1 of 12 answers say nothing: cut off at 7 tokens" in caplog.text


PRICES = "models:\n  gpt-4.1: {dollars_per_million_prompt_tokens: 1000, dollars_per_million_answer_tokens: 10000}\n"


def test_a_cap_in_dollars(data, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    usage = {"prompt_tokens": 100, "completion_tokens": 10}  # 0.2 dollars
    table = answers_of(data, lambda sample: Reply(sample.answers[0], usage=usage))
    asked = {"costs": prices, "max_new_tokens": 1, "workers": 3}
    with Stub(table) as stub:
        with pytest.raises(OutputError, match=r"answers have cost \$[01]\.\d+; the next may cost \$.*\$3 are allowed"):
            extract(data, stub, max_usd=3, **asked)
        n = len(kept(data))
        assert 1 <= n <= 5 and 0.2 * n <= 3
        with pytest.raises(OutputError, match="are allowed") as caught:
            extract(data, stub, max_usd=3, **asked)
        assert "raise --max-usd" in caught.value.hint and len(stub.requests) == n, "what was spent counts"
        made = extract(data, stub, max_usd=30, **asked)
        assert made.facts["dollars"] == pytest.approx(0.2 * 12) and len(stub.requests) == 12
    silent = answers_of(data, lambda sample: Reply(sample.answers[0], usage={}))
    with Stub(silent) as stub, pytest.raises(OutputError, match="does not tell how many tokens"):
        extract(data, stub, max_usd=30, out=tmp_path / "other.zarr", **asked)


def test_what_a_server_does_not_count_has_no_price(data, tmp_path):
    costs = tmp_path / "costs.yaml"
    costs.write_text(PRICES)
    table = {key: Reply(said, usage={}) for key, said in answers_of(data).items()}
    with Stub(table) as stub:
        made = extract(data, stub, costs=costs)
        assert made.facts["dollars"] is None and "$" not in made.text
        assert extract(data, stub, costs=costs).facts["dollars"] is None, "of an earlier run neither"


def test_a_cap_in_dollars_needs_prices(data, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("models:\n  gpt-4.1: {dollars_per_million_prompt_tokens: 1}\n")
    with Stub(answers_of(data)) as stub:
        for costs in ({}, {"costs": prices}):
            with pytest.raises(InvalidInputError, match=r"its answers cannot be capped at \$3"):
                extract(data, stub, max_usd=3, **costs)
        assert not stub.requests and not (data.parent / "gpt.zarr").exists()
        with pytest.raises(OutputError, match="5 requests were sent, as many as are allowed"):
            extract(data, stub, max_requests=5)
        assert len(stub.requests) == 5 == len(kept(data))
        with pytest.raises(InvalidInputError, match=r"no prices of gpt-4\.1 are given") as caught:
            extract(data, stub, max_usd=3, max_requests=20)
        assert len(stub.requests) == 5 and caught.value.lines.count("\n") == 1


def test_a_plan_asks_nobody(data, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    with Stub(answers_of(data)) as stub:
        extract(data, stub, split="test", limit=2, max_new_tokens=8)
        fields = {"model": "gpt-4.1", "endpoint": stub.url, "dataset": data, "out": data.parent / "gpt.zarr"}
        planned = step("plan", **fields, max_new_tokens=8, costs=prices)
        assert len(stub.requests) == 2
    assert "10 questions with 10 images to ask gpt-4.1, 2 are answered; at most 80 tokens" in planned.text
    assert planned.facts["answer_dollars"] == pytest.approx(0.8)
    with pytest.raises(StoreError, match=r'holds another recipe: model was "gpt-4\.1", now "other"'):
        step("plan", **{**fields, "model": "other"}, max_new_tokens=8)
    with pytest.raises(InvalidInputError, match="measure is for a model that runs here"):
        step("plan", **fields, measure=4)


def test_images_are_scaled_and_texts_stay(tmp_path):
    rows = [question(0, image="0.png")]
    path = write_rows(tmp_path / "data", rows)
    Image.effect_noise((300, 100), 40).convert("RGB").save(path.parent / "0.png")
    (sample,) = View().worded(open_dataset(str(path)).load("train", None))
    with Stub(lambda body: "A") as stub:
        extract(path, stub, max_pixels=7500)
        extract(path, stub, out=tmp_path / "whole.zarr")
    for (_, _, body), size in zip(stub.requests, ((150, 50), (300, 100)), strict=True):
        image, text = body["messages"][0]["content"]
        assert (
            _size(image["image_url"]["url"]) == size
            and text["text"] == messages_of(sample, False, None)[0]["content"][1]["text"]
        )
    assert open_store(tmp_path / "data" / "gpt.zarr").manifest.identity["max_pixels"] == 7500


def _size(uri):
    import base64
    import io

    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size


def test_azure_and_other_forms_of_an_address(data, monkeypatch):
    from relope.extract.endpoint.address import open_endpoint

    forms = {
        "https://x.openai.azure.com": "https://x.openai.azure.com/openai/deployments/gpt-4.1/chat/completions",
        "https://x.openai.azure.com/openai/deployments/d?api-version=2025-01-01": "https://x.openai.azure.com/openai/deployments/d/chat/completions",
        "https://x.openai.azure.com/openai/v1": "https://x.openai.azure.com/openai/v1/chat/completions",
        "http://localhost:11434/v1/": "http://localhost:11434/v1/chat/completions",
    }
    for given, url in forms.items():
        assert open_endpoint(given, "gpt-4.1", None).url == url
    with Stub(answers_of(data)) as stub:
        azure = stub.url.removesuffix("/v1") + "/openai/deployments/mine?api-version=2025-01-01"
        made = extract(data, stub, endpoint=azure)
        path, headers, _ = stub.requests[0]
    assert path == "/openai/deployments/mine/chat/completions?api-version=2025-01-01"
    assert headers["api-key"] == KEY and "authorization" not in headers
    assert "2025" not in open_store(made.path).manifest.recorded["endpoint"] and len(kept(data)) == 12


def test_mistakes(data, tmp_path):
    with Stub(answers_of(data)) as stub:
        for more, says in (
            ({"layers": "3,4"}, "layers is for a model that runs here, and gpt-4.1 runs at an endpoint"),
            ({"p_true": True, "samples": 5}, "samples, p_true is for a model that runs here"),
            ({"max_new_tokens": 0}, "an endpoint gives answers and no states"),
            ({"endpoint": None, "api_key_env": None, "workers": 8, "max_requests": 3}, "no endpoint is given"),
            ({"endpoint": "ftp://x"}, "is no web address"),
            ({"api_key_env": "NO_SUCH_VARIABLE"}, "no variable NO_SUCH_VARIABLE"),
        ):
            with pytest.raises(RelopeError, match=says) as caught:
                extract(data, stub, **more)
            assert caught.value.lines.count("\n") <= 1 and not (data.parent / "gpt.zarr").exists()
        assert not stub.requests
    with pytest.raises(OutputError, match="cannot be reached"):
        extract(data, stub)


def test_two_runs_at_once_and_a_journal_of_something_else(data):
    with Stub(answers_of(data), latency_s=0.05) as stub:
        extract(data, stub, split="test", limit=1)
        recipe = open_store(data.parent / "gpt.zarr").recipe_id
        from relope.extract.answer_journal import AnswerJournal

        held = AnswerJournal(journal_path(data.parent / "gpt.zarr"), recipe)
        with pytest.raises(OutputError, match="another run is adding to"):
            extract(data, stub)
        held.close()
        journal_path(data.parent / "gpt.zarr").write_text('{"recipe": "another"}\n')
        with pytest.raises(InvalidInputError, match=r"line 1 of .*answers.jsonl is no answer of this recipe"):
            extract(data, stub)
