"""`relope serve` as a command: what it reads, what it refuses before a model is loaded, how it begins and ends."""

import os
import signal
import threading

import httpx
import pytest
import yaml
from made_bundle import written_bundle
from stub_engine import StubEngine
from upstream_stub import until

from relope import steps
from relope.errors import InvalidInputError, StoreError
from relope.serve import engine, listening
from relope.spec import build
from relope.steps import serve
from relope.types import silent

ASKED = {"large_base_url": "http://localhost:1/v1", "large_model": "big", "port": "0"}


def spec(bundle, **fields):
    return build("serve", {"bundle": str(bundle), **ASKED, **fields})


def test_a_bundle_whose_files_were_changed_is_refused(tmp_path):
    bundle = written_bundle(tmp_path / "b")
    serve.check(spec(bundle))
    (bundle / "router.json").write_text('{"evil": true}')
    with pytest.raises(StoreError, match="was changed after the bundle was made"):
        steps.run(spec(bundle))


def test_a_cap_needs_prices_of_both_kinds_of_tokens(tmp_path):
    bundle, costs = written_bundle(tmp_path / "b"), tmp_path / "costs.yaml"
    half = {"dollars_per_million_prompt_tokens": 1.0}
    costs.write_text(yaml.safe_dump({"models": {"big": half}}))
    with pytest.raises(InvalidInputError, match="prices of both kinds of tokens of big"):
        serve.check(spec(bundle, costs=str(costs), max_usd_per_hour=1))
    whole = {**half, "dollars_per_million_answer_tokens": 2.0}
    costs.write_text(yaml.safe_dump({"models": {"big": whole, "tiny-small": whole}}))
    serve.check(spec(bundle, costs=str(costs), max_usd_per_hour=1))


def test_it_serves_until_it_is_told_to_end(tmp_path, monkeypatch, caplog):
    bundle, made = written_bundle(tmp_path / "b"), StubEngine()
    monkeypatch.setattr(engine, "open_engine", lambda name, folder, settings: made)
    monkeypatch.setenv("RELOPE_API_KEY", "k" * 20)
    told = []
    logger = type("Logger", (), {
        "info": lambda self, text, *values: told.append(text % values), "warning": lambda self, *values: None,
    })  # fmt: skip
    monkeypatch.setattr(listening, "logger_on_stderr", lambda *form, quiet: logger())
    answers = []

    def client():
        assert until(lambda: told)
        url, key = told[0].rpartition(" ")[2], {"x-relope-api-key": "k" * 20}
        body = {"messages": [{"role": "user", "content": "score=0.45"}]}
        answers.append(httpx.post(f"{url}/v1/chat/completions", json=body, headers=key))
        answers.append(httpx.post(f"{url}/v1/chat/completions", json=body))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=client)
    thread.start()
    outcome = steps.run(spec(bundle, threshold=0.4, log=str(tmp_path / "d.jsonl")), silent)
    thread.join(10)
    assert [answer.status_code for answer in answers] == [200, 401] and answers[0].headers["x-relope-route"] == "small"
    assert outcome.text == "1 request answered, 1 by tiny-small, 0 by big" and outcome.path == tmp_path / "d.jsonl"
    assert told[0].startswith("relope serves tiny-small and big at http://127.0.0.1:") and made.dead
