"""`relope route` and `Bundle.route`: one question, its decision, and the answer of whoever is to give it."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

import relope
from relope import steps
from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError, OutputError
from relope.serve.bundle import load_bundle
from relope.serve.routing import close_sessions
from relope.spec import build
from tests.helpers.openai_stub import Stub


@pytest.fixture(scope="module")
def folder(store_path, tmp_path_factory):
    """A bundle of a probe on the small store."""
    out = tmp_path_factory.mktemp("route")
    fitted = {"method": "probe", "store": store_path, "set": {"head": "logistic"}, "out": out / "router"}
    router = steps.run(build("fit", fitted)).path
    asked = {"router": str(router), "store": store_path, "split": "test", "budget": 0.5, "out": out / "bundle"}
    return steps.run(build("calibrate", asked)).path


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


@pytest.fixture(autouse=True, scope="module")
def closed():
    yield
    close_sessions()


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_question_from_the_command_line(folder, picture):
    asked = ("route", "What colour is the object?", "--bundle", folder, "--image", picture, "--device", "cpu", "--json")
    kept = json.loads(command(*asked, "--threshold", 0).stdout)
    assert kept["route"] == "small" and kept["model"] == "tiny-vl" and kept["answer"] and kept["reason"] == "score"
    assert 0 <= kept["p_correct"] <= 1 and kept["score"] >= kept["threshold"] == 0
    escalated = json.loads(command(*asked, "--threshold", 1).stdout)
    assert escalated["route"] == "large" and escalated["answer"] is None
    assert escalated["score"] == pytest.approx(kept["score"], abs=1e-6)
    told = command(*asked[:-1], "--threshold", 1)
    assert "escalated; no large model was given" in told.stdout and told.exit_code == 0


def test_the_large_model_answers_what_is_escalated(folder, picture, monkeypatch):
    monkeypatch.setenv("LARGE_KEY", "sk-large-0123456789")
    with Stub(lambda body: "It is red.") as stub:
        given = {"large_base_url": stub.url, "large_model": "big", "large_api_key_env": "LARGE_KEY", "device": "cpu"}
        asked = {"question": "What colour?", "bundle": folder, "image": [str(picture)], "system": "Be brief."}
        outcome = steps.run(build("route", {**asked, **given, "threshold": 1.0}))
        assert steps.run(build("route", {**asked, **given, "threshold": 0.0})).facts["model"] == "tiny-vl"
    assert outcome.facts["answer"] == "It is red." and outcome.facts["model"] == "big"
    assert "It is red." in outcome.text
    ((_, headers, body),) = stub.requests
    assert headers["authorization"] == "Bearer sk-large-0123456789" and body["model"] == "big"
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert [part["type"] for part in body["messages"][1]["content"]] == ["image_url", "text"]
    down = {**asked, **given, "large_base_url": "http://127.0.0.1:9/v1", "threshold": 1.0}
    monkeypatch.setattr("relope.extract.endpoint.client.ATTEMPTS", 1)
    with pytest.raises(OutputError, match=r"the query was escalated, and .* cannot be reached"):
        steps.run(build("route", down))


def test_a_conversation_from_python(folder, picture):
    bundle = load_bundle(folder)
    shown = {"role": "user", "content": [picture, {"type": "text", "text": "What colour is the object?"}]}
    routed = bundle.route([shown], threshold=0.0, device="cpu")
    alike = {"role": "user", "content": [Image.open(picture), "What colour is the object?"]}
    again = relope.load_bundle(folder).route([alike], threshold=0.0, device="cpu")
    assert again.text == routed.text and routed.text and routed.n_answer_tokens and routed.finish == "stop"
    assert again.decision.score == routed.decision.score
    escalated = bundle.route("How many circles are there?", threshold=1.0, device="cpu")
    assert escalated.decision.route == "large" and escalated.text is None
    decided = bundle.route("How many circles are there?", score_only=True, device="cpu")
    assert decided.text is None and decided.decision.threshold == bundle.threshold


def test_what_is_no_conversation_is_refused(folder, tmp_path):
    bundle = load_bundle(folder)
    with pytest.raises(InvalidInputError, match="turn 1 has the role 'tool'"):
        bundle.route([{"role": "tool", "content": "x"}])
    with pytest.raises(InvalidInputError, match="turn 1 holds a dict, which is neither text nor an image"):
        bundle.route([{"role": "user", "content": [{"type": "input_audio"}]}])
    with pytest.raises(NotFoundError, match="no image at"):
        bundle.route([{"role": "user", "content": [tmp_path / "none.png", "?"]}])
    with pytest.raises(InvalidInputError, match="must end with a turn of the user"):
        bundle.route([{"role": "assistant", "content": "x"}], device="cpu")
