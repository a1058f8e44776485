"""The server over HTTP: ``python benchmarks/bench_serve_http.py [--json] [--quick]``, three minutes.

What it adds to a call, whether a crowd wears it out, how soon it is ready. A bundle of the embedded model is made first
(extract, fit, calibrate); `relope serve` runs as a process of its own, the large model is a server of a fixed answer in
another one. Latencies are of one client with a kept connection; direct calls and calls through the router take turns.
Client, router and large model need three cores, or a machine without other work, to show what the router adds.
"""

import contextlib
import json
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
from figures import ROUNDS, Figure, at_most, main, shown

CLIENTS = 16


@dataclass(frozen=True)
class Sizes:
    """How many calls of each contender in a round, how many mixed requests, and how many of them hang up."""

    calls: int = 200
    mixed: int = 2000
    gone: int = 100


QUICK = Sizes(20, 80, 8)
UPSTREAM = """
import json, sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    asked = json.loads(body)
    message = {"role": "assistant", "content": "large: " + asked["messages"][-1]["content"]}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": asked["model"],
              "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
              "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    raw = json.dumps(answer).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": raw})
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", lifespan="off")
"""
QUESTIONS = ("How many circles are there?", "Which bar is the tallest?", "What time is it?", "Which digit is shown?")
BAD = (
    b"{", b"[]", b'{"messages": []}', b'{"messages": [{"role": "wizard", "content": "a"}]}',
    b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
    b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": -1}',
    b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}]}',
)  # fmt: skip
JSON = {"content-type": "application/json"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def relope(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "relope", *map(str, words), "-q"], check=True, stdout=subprocess.DEVNULL)


def bundle(folder: Path) -> Path:
    store = folder / "tiny.zarr"
    for split in ("train", "validation"):
        relope("extract", "--model", "tiny-vl", "--dataset", "tiny", "--split", split, "--limit", 200, "--out", store)
    relope("fit", "probe", "--store", store, "--out", folder / "probe")
    relope("calibrate", "--router", folder / "probe", "--store", store, "--budget", 0.3, "--out", folder / "bundle")
    return folder / "bundle"


def wait_for(url: str, seconds: float = 60) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).status_code < 500:
                return
        time.sleep(0.02)
    raise TimeoutError(url)


def chat(text: str, **fields: object) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 12, **fields}
    ).encode()


def latencies(client: httpx.Client, url: str, headers: dict[str, str], n: int) -> list[float]:
    body, took = chat("How many circles are there?"), []
    for _ in range(n):
        begun = time.perf_counter()
        client.post(f"{url}/chat/completions", content=body, headers={**JSON, **headers}).raise_for_status()
        took.append(1000 * (time.perf_counter() - begun))
    return sorted(took)


def overhead(direct: str, routed: str, n: int) -> dict[str, Figure]:
    """What the router adds to a call of the large model, in ms."""
    p50, p95, base = [], [], []
    with httpx.Client(timeout=30) as client:
        for warm in (direct, routed):
            latencies(client, warm, {"x-relope-route": "large"}, n)
        for _ in range(ROUNDS):
            plain = latencies(client, direct, {}, n)
            through = latencies(client, routed, {"x-relope-route": "large"}, n)
            at = lambda values, share: values[int(share * len(values))]  # noqa: E731
            p50.append(at(through, 0.5) - at(plain, 0.5))
            p95.append(at(through, 0.95) - at(plain, 0.95))
            base.append(at(plain, 0.5))
    return {
        "added by the proxy, p50 (ms)": at_most(p50, 2),
        "added by the proxy, p95 (ms)": at_most(p95, 8),
        "a direct call, p50 (ms)": shown(base),
    }


def resident_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def files_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def leave(url: str, body: bytes, after_s: float) -> None:
    """Send a request and hang up."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(after_s)


def asked(client: httpx.Client, url: str, expected: dict[tuple[str, str], str], drawn: random.Random) -> int:
    """Send one request of the mix; return 1 for a wrong answer."""
    kind = drawn.random()
    if kind < 0.25:
        answer = client.post(f"{url}/chat/completions", content=drawn.choice(BAD), headers=JSON)
        return int(answer.status_code != 400 or "error" not in answer.json())
    route, text = ("small" if kind < 0.7 else "large"), drawn.choice(QUESTIONS)
    stream = kind < 0.4  # of the small model: the large one of this benchmark has no streams
    headers = {**JSON, "x-relope-route": route}
    answer = client.post(f"{url}/chat/completions", content=chat(text, stream=stream), headers=headers)
    return int(answer.status_code != 200 or said(answer, stream) != expected[route, text])


def said(answer: httpx.Response, stream: bool) -> str:
    if not stream:
        return str(answer.json()["choices"][0]["message"]["content"])
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    chunks = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(chunk["delta"].get("content") or "" for chunk in chunks)


def crowd(url: str, pid: int, sizes: Sizes) -> dict[str, Figure]:
    """Mixed requests of 16 clients, and some that hang up."""
    expected = {}
    with httpx.Client(timeout=60) as client:
        for route in ("small", "large"):
            for text in QUESTIONS:
                headers = {**JSON, "x-relope-route": route}
                answer = client.post(f"{url}/chat/completions", content=chat(text), headers=headers)
                expected[route, text] = said(answer, False)
    clients = [httpx.Client(timeout=60) for _ in range(CLIENTS)]
    before = files_of(pid) + CLIENTS  # the connections to the large model stay open for the next call
    resident, lock = list[float](), threading.Lock()

    def work(number: int) -> int:
        drawn = random.Random(number)
        if number % (sizes.mixed // sizes.gone) == 0:
            leave(url, chat(drawn.choice(QUESTIONS), stream=number % 40 == 0), drawn.random() / 20)
        wrong = asked(clients[number % CLIENTS], url, expected, drawn)
        with lock:
            resident.append(resident_mib(pid))
        return wrong

    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        wrong = sum(pool.map(work, range(sizes.mixed)))
    took = time.perf_counter() - begun
    for client in clients:
        client.close()
    time.sleep(1)
    metrics = httpx.get(url.removesuffix("/v1") + "/metrics").text
    held = sum(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("relope_engine_"))
    quarter = sizes.mixed // 4
    second, last = statistics.median(resident[quarter : 2 * quarter]), statistics.median(resident[-quarter:])
    return {
        "wrong answers of mixed requests": at_most(wrong, 0),
        "rows that the engine still holds": at_most(held, 0),
        "files open beyond the kept connections": at_most(files_of(pid) - before, 0),
        "memory, last quarter : second": at_most(last / second, 1.05),
        "requests per second, 16 clients": shown(sizes.mixed / took),
    }


def measure(quick: bool) -> dict[str, Figure]:
    sizes = QUICK if quick else Sizes()
    folder, large, small = Path(tempfile.mkdtemp()), free_port(), free_port()
    upstream = subprocess.Popen([sys.executable, "-c", UPSTREAM, str(large)])
    try:
        made = bundle(folder)
        direct, routed = f"http://127.0.0.1:{large}/v1", f"http://127.0.0.1:{small}/v1"
        begun = time.perf_counter()
        command = ["serve", "--bundle", made, "--large-base-url", direct, "--large-model", "big", "--port", small]
        server = subprocess.Popen(
            [sys.executable, "-m", "relope", *map(str, command), "--allow-overrides", "-q"], stdout=subprocess.DEVNULL
        )
        try:
            wait_for(f"http://127.0.0.1:{small}/ready")
            ready = time.perf_counter() - begun
            return {
                "seconds until ready": at_most(ready, 10),
                **overhead(direct, routed, sizes.calls),
                **crowd(routed, server.pid, sizes),
            }
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    finally:
        upstream.kill()
        upstream.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(measure, __doc__)
