"""One batch through the model: a single prefill, a greedy answer, and everything that was seen."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import StoppingCriteriaList

from relope.extract.data import prompts
from relope.extract.model.backbone import Backbone
from relope.extract.model.cache import cache_name, roomy_cache
from relope.extract.model.capture import Stop, Tap
from relope.extract.model.continuation import ask_whether_true, draws, sample_traces, truth_ids
from relope.extract.model.extras import Extras
from relope.extract.model.overlap import HostCopy
from relope.extract.model.stops import Stops, cut_at
from relope.types import Capture, Generation

STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16}
IMAGE, TEXT = 1, 0
"""Values of the ``kind`` column of a token."""

STYLES = {"direct": prompts.DIRECT, "chain": prompts.CHAIN_OF_THOUGHT}
"""Style of a trace → what is fed after the generation prompt."""


def room_behind(backbone: Backbone, max_new_tokens: int, extras: Extras) -> int:
    """Return the most tokens that may follow a prompt: an answer, a trace, or the question about the answer."""
    room = [max_new_tokens]
    if extras.p_true:
        room.append(max_new_tokens + len(backbone.encode(backbone.follow_up(prompts.TRUE_OR_FALSE))) + 2)
    if extras.samples:
        longest = max(max_new_tokens, extras.trace_tokens)
        room += [len(backbone.encode(suffix)) + longest for suffix in STYLES.values()]
    return max(room)


@dataclass
class Answered:
    """A batch's states on their way to the host, ragged: ΣT tokens of B samples.

    Attributes:
        lengths: ``[B]`` prompt tokens of each sample.
        hidden: layer → copy of ``[ΣT, H]`` in the stored dtype.
        answer: copy of ``[B, H]`` in the stored dtype.
        tokens: copy of ``[ΣT, C] int32``.
        generations: copy of the per-step token ids, log-probs, entropies and kept flags.
        traces: style → copies of ``[B·k, A]`` token ids and kept flags of k traces a sample.
        p_true: copy of ``[B]``, or None.
        p_true_tokens: ``[B]`` tokens that were read to ask for it, beside the prompt.
        stops: texts that end an answer.
        stopped: row → its answer, where one of them has ended it.
        columns: further columns of each sample; empty as a rule.
        seconds_beside: that traces and p(True) took.
    """

    lengths: list[int]
    hidden: dict[int, HostCopy]
    answer: HostCopy
    tokens: HostCopy
    generations: list[HostCopy]
    traces: dict[str, tuple[HostCopy, HostCopy]] = field(default_factory=dict)
    p_true: HostCopy | None = None
    p_true_tokens: list[int] = field(default_factory=list)
    stops: tuple[str, ...] = ()
    stopped: dict[int, str] = field(default_factory=dict)
    columns: list[dict[str, Any]] = field(default_factory=list)
    seconds_beside: float = 0.0


def token_columns(backbone: Backbone) -> tuple[str, ...]:
    """Return the names of the per-token columns that ``answer_batch`` fills."""
    return ("id", "kind", "type", *(f"position_{row}" for row in range(backbone.traits.position_rows)))


@torch.inference_mode()
def answer_batch(
    backbone: Backbone,
    inputs: dict[str, Tensor],
    layers: Sequence[int],
    max_new_tokens: int,
    stored: str,
    extras: Extras | None = None,
    ids: Sequence[str] = (),
    stops: tuple[str, ...] = (),
) -> Answered:
    """Answer a batch greedily and start copying what its prefill left behind to the host.

    Args:
        backbone: the opened model.
        inputs: a left-padded batch from ``Backbone.inputs``.
        layers: the blocks whose output is kept; what is kept of all but the deepest is what the
            next block consumes.
        max_new_tokens: upper bound of the answer's length; 0 = stop after the deepest layer, without an answer.
        stored: dtype in which states leave the device.
        extras: what else is asked, from the cache of the same prefill.
        ids: the samples' ids, which decide what is drawn.
        stops: texts that end an answer.
    """
    extras = extras or Extras()
    on_device = backbone.to_device(inputs)
    silent, watched = max_new_tokens == 0, Stops(stops, backbone.decode) if stops else None
    tap = Tap(backbone.model, layers, backbone.traits.end_ids, stop=silent, keep=extras.any, stops=watched)
    with tap, suppress(Stop):
        backbone.model.generate(
            **on_device,
            max_new_tokens=max(max_new_tokens, 1),
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([tap]),
            **{cache_name(backbone.model): roomy_cache(backbone.model, max_new_tokens)},
        )
    mask = on_device["attention_mask"].bool()
    tap.check((*mask.shape, backbone.hidden_size))
    dtype = STORED[stored]
    answered = Answered(
        lengths=inputs["attention_mask"].sum(1).tolist(),
        hidden={layer: HostCopy(states[mask.to(states.device)].to(dtype)) for layer, states in tap.hidden.items()},
        answer=HostCopy(_answer(tap, backbone, len(mask)).to(dtype)),
        tokens=HostCopy(token_table(backbone, on_device, tap.positions, mask)),
        generations=[
            HostCopy(_stacked(steps, len(mask))) for steps in (tap.token_ids, tap.logprobs, tap.entropies, tap.kept)
        ],
        stops=stops,
        stopped=tap.stopped,
    )
    if extras.any:
        begun = _clock(backbone.device)
        _ask_more(backbone, tap, on_device["attention_mask"], max_new_tokens, extras, ids, answered)
        answered.seconds_beside = _clock(backbone.device) - begun
    return answered


def _clock(device: torch.device) -> float:
    """Return the time in seconds, once the device has done what it was told: before that it tells nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _answer(tap: Tap, backbone: Backbone, rows: int) -> Tensor:
    return tap.answer_states() if tap.kept else torch.zeros(rows, backbone.hidden_size, device=backbone.device)


def _stacked(steps: list[Tensor], rows: int) -> Tensor:
    return torch.stack(steps) if steps else torch.zeros(0, rows)


def _ask_more(
    backbone: Backbone, tap: Tap, mask: Tensor, max_new_tokens: int, extras: Extras, ids: Sequence[str], out: Answered
) -> None:
    """Sample traces and ask p(True), each from a copy of the prompt's cache."""
    prompt = tap.prefix(mask)
    if extras.p_true:
        said, kept = torch.stack(tap.token_ids, 1), torch.stack(tap.kept, 1)
        answers = [row[used].tolist() for row, used in zip(said, kept, strict=True)]
        follow_up = backbone.encode(backbone.follow_up(prompts.TRUE_OR_FALSE))
        truths = truth_ids(backbone.tokenizer, backbone.name)
        out.p_true_tokens = [len(answer) + len(follow_up) for answer in answers]
        out.p_true = HostCopy(ask_whether_true(backbone.model, prompt, answers, follow_up, truths))
    if extras.samples:
        longest = {"direct": max_new_tokens, "chain": max(max_new_tokens, extras.trace_tokens)}
        for style, suffix in STYLES.items():
            drawn = draws(ids, style, extras, longest[style])
            begin = backbone.encode(suffix)
            tokens, kept = sample_traces(backbone.model, prompt, begin, drawn, extras.temperature, tap.end_ids)
            out.traces[style] = (HostCopy(tokens), HostCopy(kept))


def token_table(backbone: Backbone, inputs: dict[str, Tensor], positions: Tensor | None, mask: Tensor) -> Tensor:
    """Return ``[ΣT, C] int32`` in the order of ``token_columns``."""
    ids = inputs["input_ids"]
    types = inputs.get("mm_token_type_ids", inputs.get("token_type_ids", torch.zeros_like(ids)))
    image_id = backbone.traits.image_token_id
    kinds = (ids == image_id).long() if image_id is not None else torch.zeros_like(ids)
    if positions is None:
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[None]
    rows = positions.expand(-1, len(ids), -1)
    return torch.stack([ids, kinds, types, *rows], dim=-1)[mask].to(torch.int32)


def captures(answered: Answered, token_layers: Sequence[int]) -> list[Capture]:
    """Split a copied batch into one capture a sample; layers not in ``token_layers`` keep one token."""
    hidden = {layer: copy.numpy() for layer, copy in answered.hidden.items()}
    tokens, answer = answered.tokens.numpy(), answered.answer.numpy()
    ends = np.cumsum(answered.lengths)
    split = []
    for row, (end, length) in enumerate(zip(ends, answered.lengths, strict=True)):
        spans = {
            layer: states[end - (length if layer in token_layers else 1) : end] for layer, states in hidden.items()
        }
        split.append(Capture(spans, answer[row], tokens[end - length : end]))
    return split


Decode = Callable[[Sequence[int]], str]
"""Token ids → text."""


def generations(answered: Answered, decode: Decode) -> list[Generation]:
    """Turn a copied batch's steps into one generation a sample."""
    ids, logprobs, entropies, kept = (copy.numpy() for copy in answered.generations)
    kept = kept.astype(bool)
    made = []
    for row in range(ids.shape[1]):
        used = kept[:, row]
        token_ids = tuple(int(token) for token in ids[used, row])
        ended = row in answered.stopped or not used.all()
        made.append(
            Generation(
                text=answered.stopped.get(row, decode(token_ids)).strip(),
                token_ids=token_ids,
                logprobs=tuple(float(value) for value in logprobs[used, row]),
                entropies=tuple(float(value) for value in entropies[used, row]),
                finish_reason="none" if not len(used) else "stop" if ended else "length",
            )
        )
    return made


def extra_columns(answered: Answered, decode: Decode) -> list[dict[str, Any]]:
    """Return one dict a sample: ``traces_direct``, ``traces_chain`` and ``p_true``, as far as they were asked for.

    Beside them stands what they took: ``trace_tokens_…``, tokens written of each trace without the end token, and
    ``p_true_tokens``, tokens read after the prompt.
    """
    rows = len(answered.lengths)
    extra: list[dict[str, Any]] = [dict(columns) for columns in answered.columns] or [{} for _ in range(rows)]
    for style, (tokens, kept) in answered.traces.items():
        said = (decode(ids[used].tolist()) for ids, used in zip(tokens.numpy(), kept.numpy(), strict=True))
        texts = [cut_at(text, answered.stops).strip() for text in said]
        written = kept.numpy().sum(1).tolist()
        times = len(texts) // rows
        for row, columns in enumerate(extra):
            columns[f"traces_{style}"] = texts[row * times : (row + 1) * times]
            columns[f"trace_tokens_{style}"] = written[row * times : (row + 1) * times]
    if answered.p_true is not None:
        values = zip(extra, answered.p_true.numpy(), answered.p_true_tokens, strict=True)
        for columns, value, n_tokens in values:
            columns |= {"p_true": float(value), "p_true_tokens": n_tokens}
    return extra
