"""What requests hold, and for how long: pixels that were decoded, and a turn at the large model."""

import base64
import io
import json
import socket

import httpx
import pytest
from PIL import Image
from stub_engine import StubEngine
from upstream_stub import until

from relope.serve.limits import Limits
from relope.serve.policy import Settings


def user(text, size=100):
    """A request with an image of so many pixels a side."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size)).save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": content}]}


class Watched(StubEngine):
    most = 0

    def submit(self, query):
        ticket = super().submit(query)
        self.most = max(self.most, len(self.live))
        return ticket


def test_images_of_a_batch_are_decoded_a_few_at_a_time(serving):
    engine = Watched(delay_s=0.05)
    url, service, _ = serving(engine)
    asked = {"requests": [user(f"score=0.{k}") for k in range(1, 10)]}
    data = httpx.post(f"{url}/v1/relope/score", json=asked, timeout=20).json()["data"]
    assert [each["score"] for each in data] == [k / 10 for k in range(1, 10)] and engine.most == 4
    engine.most = 0
    texts = {"requests": [{"messages": [{"role": "user", "content": f"score=0.{k}"}]} for k in range(1, 10)]}
    assert len(httpx.post(f"{url}/v1/relope/score", json=texts, timeout=20).json()["data"]) == engine.most == 9
    assert service.intake.held_pixels == 0


@pytest.mark.parametrize(("policy", "modes", "status", "model"), [
    (Settings(), [], 200, "big"), (Settings(local_fallback=True), ["500"], 503, None),
    (Settings(shadow="large"), [], 200, "big"),
])  # fmt: skip
def test_beyond_what_is_held_at_once_the_large_model_answers(serving, policy, modes, status, model):
    """Others hold 10,000 pixels, and 15,000 are allowed."""
    url, service, state = serving(policy=policy, limits=Limits(held_pixels=15_000), model={"retries": 0})
    service.intake.held_pixels = 10_000
    state.modes = list(modes)
    answer = httpx.post(f"{url}/v1/chat/completions", json=user("score=0.9"), timeout=20)
    scored = httpx.post(f"{url}/v1/relope/score", json=user("score=0.9"), timeout=20).json()
    assert answer.status_code == status and answer.json().get("model") == model
    if status == 503:
        assert answer.headers["retry-after"] == "1"
    elif policy.shadow is None:
        assert answer.headers["x-relope-reason"] == "small-busy"
    assert (scored["route"], scored["reason"], scored["score"]) == ("large", "small-busy", None)
    assert service.intake.held_pixels == 10_000
    service.intake.held_pixels = 0
    alone = httpx.post(f"{url}/v1/relope/score", json=user("score=0.9", size=200), timeout=20).json()
    assert alone["score"] == 0.9, "what is larger than the room by itself is held alone"


@pytest.mark.parametrize("text", ["score=0.9", "score=0.1", "score=0.9 breaks", "blind"])
@pytest.mark.parametrize("stream", [False, True])
def test_room_is_given_back_however_a_request_ends(serving, text, stream):
    url, service, _ = serving()
    httpx.post(f"{url}/v1/chat/completions", json={**user(text), "stream": stream})
    httpx.post(f"{url}/v1/relope/score", json=user(text))
    assert until(lambda: service.intake.held_pixels == 0)


def test_a_client_that_reads_nothing_gives_its_turn_back(serving, tmp_path):
    path = tmp_path / "d.jsonl"
    url, service, state = serving(limits=Limits(send_s=0.3), log=path)
    state.modes = ["flood"]
    body = json.dumps({"messages": [{"role": "user", "content": "score=0.1"}], "stream": True})
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
    head = f"{head}\r\ncontent-length: {len(body)}"
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port)) as client:
        client.sendall(f"{head}\r\n\r\n{body}".encode())
        assert until(lambda: service.large.purse.under_way == 1)
        assert until(lambda: service.large.purse.under_way == 0, 10) and service.large._turn._value == 64
        assert until(lambda: path.read_text() != "")
    assert json.loads(path.read_text())["ended"] == "stalled" and until(lambda: state.open == 0)
    assert service.metrics.cancelled._value.get() == 1
