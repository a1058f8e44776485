"""A server that answers as vLLM's tokens-in-tokens-out endpoint does, by the embedded model here."""

import base64
import io
import json
import threading
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import torch
from PIL import Image
from safetensors.torch import save_file

from relope.extract.model.backbone import open_backbone
from relope.extract.model.generate import answer_batch, captures

_lock = threading.Lock()


@cache
def backbone():
    return open_backbone("tiny-vl", "cpu", "float32")


def _inputs(token_ids, images):
    """Unfold the images of a prompt, as vLLM's processor does."""
    made, ids, grids = backbone(), [], []
    given = made.processor.image_processor(images=images, return_tensors="pt") if images else {}
    for token in token_ids:
        if token == made.traits.image_token_id:
            grids.append(given["image_grid_thw"][len(grids)])
            ids += [token] * int(grids[-1].prod() // 4)
        else:
            ids.append(token)
    tokens = torch.tensor([ids])
    kinds = (tokens == made.traits.image_token_id).long()
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "mm_token_type_ids": kinds, **given}


def _longer(inputs, more):
    ids = torch.cat([inputs["input_ids"], torch.tensor([more], dtype=torch.long)], 1)
    kinds = torch.cat([inputs["mm_token_type_ids"], torch.zeros(1, len(more), dtype=torch.long)], 1)
    return {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds}


def _said(inputs, sampling):
    """The tokens of a greedy answer, whatever the temperature, and the log-probs behind each."""
    said, rows = [], []
    while len(said) < sampling["max_tokens"]:
        with torch.inference_mode():
            row = backbone().model(**_longer(inputs, said), use_cache=False).logits[0, -1].float().log_softmax(-1)
        rows.append(row)
        said.append(int(row.argmax()))
        if said[-1] in sampling.get("stop_token_ids", ()):
            break
    return said, rows


def _stopped(said, stops):
    """The tokens up to the one that completes a stop text, and that text."""
    for n in range(1, len(said) + 1):
        text = backbone().decode(said[:n])
        if hit := next((stop for stop in stops if stop in text), None):
            return said[:n], hit
    return said, None


def _told(row, token, top):
    best = row.topk(min(top, len(row)))
    pairs = [{"token_id": int(i), "logprob": float(v)} for v, i in zip(best.values, best.indices, strict=True)]
    return {"token_id": token, "logprob": float(row[token]), "top_logprobs": pairs}


def _states(folder, layers, inputs, more):
    answered = answer_batch(backbone(), _longer(inputs, more), layers, 0, "float32")
    (capture,) = captures(answered, layers)
    name = f"{uuid4().hex}.safetensors"
    tensors = {f"block.{layer}": torch.from_numpy(capture.hidden[layer]).contiguous() for layer in layers}
    ids = torch.from_numpy(capture.tokens[:, 0].copy()).long()
    save_file({**tensors, "token_ids": ids}, folder / f"{name}.part")
    (folder / f"{name}.part").rename(folder / name)
    return {"relope_states": {"file": name, "layers": list(layers), "tokens": len(ids)}}


def generate(body, folder, layers):
    """The answer to a request of `/inference/v1/generate`."""
    images = [
        Image.open(io.BytesIO(base64.b64decode(part["url"].partition(",")[2]))).convert("RGB")
        for part in body.get("content_parts", ())
    ]
    inputs, sampling = _inputs(body["token_ids"], images), body["sampling_params"]
    said, rows = _said(inputs, sampling)
    top = sampling.get("logprobs")
    said, stopped_by = _stopped(said, sampling.get("stop", ()))
    told = None if top is None else [_told(row, token, top) for row, token in zip(rows, said, strict=False)]
    choice = {"token_ids": said, "stop_reason": stopped_by, "logprobs": None if told is None else {"content": told}}
    prompt = inputs["input_ids"][0].tolist()
    answer = {
        "prompt_token_ids": prompt,
        "choices": [{"index": index, **choice} for index in range(sampling.get("n", 1))],
        "prompt_logprobs": None,
    }
    if "prompt_logprobs" in sampling:
        shorter = {
            **inputs,
            **{key: inputs[key][:, :-1] for key in ("input_ids", "attention_mask", "mm_token_type_ids")},
        }
        _, (row, *_) = _said(shorter, {"max_tokens": 1})
        answer["prompt_logprobs"] = [None, {str(prompt[-1]): {"logprob": float(row[prompt[-1]])}}]
    if (wants := body.get("kv_transfer_params")) and not stopped_by:  # what vLLM aborts hands nothing over
        more = said[:-1] if wants["relope_states"] == "all" else []
        answer["kv_transfer_params"] = _states(folder, layers, inputs, more)
    return answer


@contextmanager
def token_server(
    folder, name, layers=(3, 4, 6), dies_after=None, change=lambda answer: answer, refuses=lambda body: False,
    loses_states=False,
):  # fmt: skip
    """Give the URL of a server; after so many requests its engine is dead.

    ``change`` alters what it answers, ``refuses`` says which requests it does not take, and where it loses states it
    says so for all but the first request.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            served = {"data": [{"id": name, "max_model_len": 256}]}
            self._send(200, served if self.path == "/v1/models" else {"version": "0.32.0"})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            if dies_after is not None and len(asked) > dies_after:
                self._send(500, {"error": {"message": "EngineCore encountered an issue."}})
                return
            if refuses(body):
                self._send(400, {"error": {"message": "too much"}})
                return
            with _lock:
                answer = change(generate(body, folder, layers))
                if loses_states and len(asked) > 1:
                    (folder / answer["kv_transfer_params"]["relope_states"]["file"]).write_bytes(b"")
                self._send(200, answer)

        def _send(self, status, document):
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
