"""`relope serve --engine vllm` as a command in front of a real server: asked over HTTP, ended by a signal."""

import base64
import io
import signal

import pytest
from made_bundle import calibrated
from PIL import Image
from serving_command import serving
from upstream_stub import ANSWER, until, upstream

from relope import steps
from relope.spec import build

pytestmark = pytest.mark.vllm
RED = io.BytesIO()
Image.new("RGB", (56, 56), "red").save(RED, "PNG")
IMAGE = {
    "type": "image_url",
    "image_url": {"url": f"data:image/png;base64,{base64.b64encode(RED.getvalue()).decode()}"},
}
TEXT = {"type": "text", "text": "what is it ?"}


@pytest.fixture(scope="module")
def bundle(store_path, tmp_path_factory):
    return calibrated(store_path, "posthoc", tmp_path_factory.mktemp("bundle"), epochs=1)


@pytest.fixture
def command(bundle, tmp_path, on_cpu):
    """Give a function that runs the command in front of an upstream; what it leaves lies in ``tmp`` and ``states``."""
    (tmp_path / "tmp").mkdir()

    def run(url, *arguments):
        given = {"--bundle": bundle, "--large-base-url": url, "--large-model": "big", "--engine": "vllm"}
        words = [word for pair in given.items() for word in pair]
        environment = {**on_cpu, "TMPDIR": str(tmp_path / "tmp"), "VLLM_CACHE_ROOT": str(tmp_path / "cache")}
        return serving(*words, "--allow-overrides", *arguments, **environment, HOME=str(tmp_path))

    return run


def both_ways(server):
    """Ask for one that is kept and one that is escalated, whole and streamed."""
    for stream in (False, True):
        headers, (small, name) = server.ask(IMAGE, TEXT, threshold=0, stream=stream, max_tokens=12)
        assert (headers["x-relope-route"], headers["x-relope-reason"], name) == ("small", "score", "tiny-vl") and small
        headers, (large, name) = server.ask(IMAGE, TEXT, threshold=1, stream=stream, max_tokens=12)
        assert (headers["x-relope-route"], headers["x-relope-reason"], name) == ("large", "score", "big")
        assert large.strip() == ANSWER


def test_a_server_that_it_starts_ends_with_it(command, vllm_python, tmp_path):
    states = tmp_path / "states"
    with upstream() as (url, _), command(url, "--vllm-python", vllm_python, "--vllm-states", states) as served:
        both_ways(served.wait())
        assert len(served.alive()) > 2
        assert served.end() == 0 and served.alive() == []
    assert list(states.iterdir()) == [] and list((tmp_path / "tmp").glob("relope-*")) == []


def test_a_server_that_is_there_stays(bundle, command, start_server, tmp_path):
    facts = steps.run(build("vllm-command", {"bundle": bundle})).facts
    words = facts["command"]
    checkpoint, more = words[words.index("--model") + 1], words[words.index("--enable-scale-out") :]
    process, made = start_server(checkpoint, facts["layers"], name=facts["name"], more=more)
    arguments = ("--vllm-url", process.url, "--vllm-states", made.folder)
    with upstream() as (url, _), command(url, *arguments) as served:
        both_ways(served.wait())
        assert served.end() == 0 and served.alive() == [] and process.runs
    assert list(made.folder.iterdir()) == [] and list((tmp_path / "tmp").glob("relope-*")) == []
    process.end()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_still_loads_ends_with_it(command, vllm_python, tmp_path, sent):
    states = tmp_path / "states"
    with upstream() as (url, _), command(url, "--vllm-python", vllm_python, "--vllm-states", states) as served:
        assert until(lambda: len(served.alive()) > 2, 60)
        assert served.end(sent) == (0 if sent == signal.SIGTERM else -sent)
        assert until(lambda: served.alive() == [], 40)
    assert sent == signal.SIGKILL or list((tmp_path / "tmp").glob("relope-*")) == []
