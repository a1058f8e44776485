"""A vLLM server on the embedded checkpoint: chunked prefill, prefix caching and compilation on."""

import base64
import io
import json
import os
import urllib.request
from pathlib import Path

import pytest

CPU = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OMP_NUM_THREADS": "1",
}
LAYERS = (3, 4)


@pytest.fixture(scope="session")
def on_cpu():
    """The environment of a server on a CPU, without a network."""
    return CPU


@pytest.fixture(scope="session")
def vllm_python():
    """The Python of vLLM's environment."""
    python = os.environ.get("RELOPE_VLLM_PYTHON", "")
    if not python:
        pytest.skip("RELOPE_VLLM_PYTHON names no Python with vLLM; scripts/test-vllm does")
    return python


@pytest.fixture(scope="session")
def start_server(vllm_python, tmp_path_factory):
    """Give a function that starts a server of a checkpoint, and returns it with the folder of its states."""
    from relope.vllm.command import Server
    from relope.vllm.process import Process, free_port

    started = []

    def start(checkpoint, layers, **settings):
        work = tmp_path_factory.mktemp("vllm")
        made = {"name": "tiny-vl", "dtype": "float32", "context": 256, "rows": 8, "batch_tokens": 64, "images": 2}
        server = Server(
            checkpoint=str(checkpoint), layers=tuple(layers), folder=work / "states", port=free_port(),
            **{**made, **settings},
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**CPU, "VLLM_CACHE_ROOT": str(work / "cache"), "HOME": str(work)}.items():
                patch.setenv(name, value)
            started.append(Process(server, vllm_python, work / "log"))
        started[-1].wait(400)
        return started[-1], server

    yield start
    for process in started:
        process.end()


@pytest.fixture(scope="session")
def tiny_server(start_server):
    """A server of the embedded small model, in float32."""
    from relope.extract.model.card import locate, open_card

    return start_server(locate(open_card("tiny-vl"))[0], LAYERS)


@pytest.fixture(scope="session")
def ask():
    """Give a function that asks a server's chat completions with texts and images, and returns the answer's JSON."""

    def part(piece):
        if isinstance(piece, str):
            return {"type": "text", "text": piece}
        file = io.BytesIO()
        piece.save(file, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}

    def send(url, model, *pieces, wants="prompt", **body):
        content = [part(piece) for piece in pieces]
        asked = {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0, **body}
        if wants:
            asked["kv_transfer_params"] = {"relope_states": wants}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    return send


@pytest.fixture
def left():
    """Give a function that lists what lies in a folder."""
    return lambda folder: sorted(path.name for path in Path(folder).iterdir())
