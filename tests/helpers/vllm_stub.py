"""A server that speaks as vLLM with our connector does, with transformers behind it; it fails where it is told to."""

import base64
import io
import json
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import torch
from PIL import Image
from safetensors.torch import save
from token_server import generate


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; without it, each answer waits 40 ms

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.server.state.dead:
            self._hang_up()
            return
        models = [{"id": name, "max_model_len": self.server.state.context} for name in self.server.state.models]
        self._json({"object": "list", "data": models})

    def do_POST(self):
        state = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state.bodies.append(body)
        if state.dead:
            self._hang_up()
            return
        while state.hangs.is_set():
            time.sleep(0.05)
        if state.status != 200:
            self._json({"error": {"message": "no"}}, state.status)
            return
        if self.path == "/inference/v1/generate":
            with state.lock:
                answer = generate(body, state.folder, state.layers)
            self._json(answer)
            return
        ids, inputs = self._read(body["messages"])
        if body.get("stream"):
            self._stream(body, inputs)
            return
        told = self._hand_over(body, ids, inputs)
        self._json({"choices": [], "kv_transfer_params": told})

    def _hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _read(self, messages):
        backbone, images = self.server.state.backbone, []
        turns = []
        for message in messages:
            parts = message["content"]
            pieces = []
            for part in parts:
                if part["type"] == "text":
                    pieces.append(part["text"])
                    continue
                encoded = part["image_url"]["url"].removeprefix("data:image/png;base64,")
                images.append(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
                pieces.append(None)
            turns.append((message["role"], pieces))
        inputs = backbone.encoded([backbone.chat.render(turns)], [images])
        return inputs["input_ids"][0], inputs

    def _hand_over(self, body, ids, inputs):
        state = self.server.state
        if "relope_states" not in body.get("kv_transfer_params", {}) or not state.hands_over:
            return None
        with state.lock, torch.inference_mode():
            states = state.backbone.model(**inputs, output_hidden_states=True).hidden_states
        ids = ids + 1 if state.other_tokens else ids
        tensors = {f"block.{layer}": states[layer][0].contiguous() for layer in state.layers}
        name = f"{uuid.uuid4().hex}.safetensors"
        content = b"" if state.garbage else save({**tensors, "token_ids": ids})
        (state.folder / f"{name}.part").write_bytes(content)
        (state.folder / f"{name}.part").rename(state.folder / name)
        return {"relope_states": {"file": name, "layers": list(state.layers), "tokens": len(ids)}}

    def _stream(self, body, inputs):
        state = self.server.state
        with state.lock, torch.inference_mode():
            out = state.backbone.model.generate(
                **inputs, max_new_tokens=body["max_tokens"], do_sample=False, output_logits=True,
                return_dict_in_generate=True,
            )  # fmt: skip
        said = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        rows = [logits[0].log_softmax(-1) for logits in out.logits]
        ended = said[-1] in state.backbone.traits.end_ids
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        ids = [] if state.hides_prompt else (inputs["input_ids"][0] + state.other_tokens).tolist()
        self._event({"choices": [{"delta": {"role": "assistant"}}], "prompt_token_ids": ids})
        try:
            for number, (token, row) in enumerate(zip(said, rows, strict=True)):
                if number == state.breaks_at:
                    if state.tells_error:
                        self._event({"error": {"message": "engine died"}})
                    self._hang_up()
                    return
                state.step.wait(10)
                choice = {"delta": {"content": "?"}, "token_ids": [token], "finish_reason": None}
                if body.get("logprobs"):
                    best = row.topk(min(body["top_logprobs"], state.most_logprobs)).values.tolist()
                    told = {"token": "?", "logprob": float(row[token]), "top_logprobs": [{"logprob": v} for v in best]}
                    choice["logprobs"] = {"content": [told]}
                if number == len(said) - 1:
                    choice["finish_reason"] = "stop" if ended else "length"
                self._event({"choices": [choice]})
                state.sent += 1
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
        except OSError:
            state.hung_up += 1

    def _event(self, value):
        self._chunk(f"data: {json.dumps(value)}\n\n".encode())

    def _chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _json(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


@contextmanager
def vllm_stub(backbone, folder, models, layers):
    """Give the address of a server, and what it is told to do."""
    state = SimpleNamespace(
        backbone=backbone, folder=folder, models=models, layers=layers, context=256, bodies=[], dead=False, status=200,
        hands_over=True, other_tokens=False, garbage=False, breaks_at=None, tells_error=False, step=threading.Event(),
        hangs=threading.Event(),
        hides_prompt=False, most_logprobs=1000, sent=0, hung_up=0, lock=threading.Lock(),
    )  # fmt: skip
    state.step.set()
    folder.mkdir(mode=0o700, exist_ok=True)
    server = Server(("127.0.0.1", 0), Handler)
    server.state = state
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", state
    finally:
        state.step.set()
        state.hangs.clear()
        server.shutdown()
        server.server_close()
        thread.join()
