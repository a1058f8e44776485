"""Batches through a vLLM server: many samples in flight at once, their answers in order."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import STORED, Answered, token_table
from relope.extract.model.overlap import HostCopy
from relope.extract.served_answer import Heard, Listener, Prompt
from relope.types import Sample


@dataclass(frozen=True)
class Sent:
    """A batch that is being answered.

    Attributes:
        lengths: ``[B]`` prompt tokens of each sample.
        tokens: ``[ΣT, C] int32``, as `token_table` makes it.
        answers: one a sample.
    """

    lengths: list[int]
    tokens: Tensor
    answers: "list[Future[Heard]]"


class ServedBatches:
    """Answers batches of samples by a server.

    Attributes:
        backbone: the model as it is known here.
        text_only: captions stand in for images.
    """

    def __init__(self, listener: Listener, pool: ThreadPoolExecutor, text_only: bool) -> None:
        """Prepare to ask; each sample takes a thread of the pool until it is answered."""
        self.backbone: Backbone = listener.backbone
        self.text_only, self._listener, self._pool = text_only, listener, pool

    def prepare(self, samples: Sequence[Sample]) -> Sent:
        """Send a batch to the server."""
        inputs = self.backbone.inputs(samples, self.text_only)
        mask = inputs["attention_mask"].bool()
        table = token_table(self.backbone, inputs, self.backbone.positions(inputs), mask)
        read = [ids[used].tolist() for ids, used in zip(inputs["input_ids"], mask, strict=True)]
        asked = [
            Prompt(
                sample,
                self.backbone.folded(sample, self.text_only),
                tokens,
                0 if self.text_only else len(sample.images),
            )
            for sample, tokens in zip(samples, read, strict=True)
        ]
        answers = [self._pool.submit(self._listener.hear, prompt) for prompt in asked]
        return Sent([len(tokens) for tokens in read], table, answers)

    def answer(self, samples: Sequence[Sample], prepared: Sent) -> Iterator[tuple[Sequence[Sample], Answered]]:
        """Yield the batch, once the last of it is answered."""
        heard = [answer.result() for answer in prepared.answers]
        yield samples, answered_of(heard, prepared, self._listener)


def answered_of(heard: Sequence[Heard], sent: Sent, listener: Listener) -> Answered:
    """Return what a server has said of a batch as if it had been answered here."""
    return Answered(
        lengths=sent.lengths,
        hidden={layer: HostCopy(torch.cat([reply.hidden[layer] for reply in heard])) for layer in listener.layers},
        answer=HostCopy(torch.stack([reply.answer for reply in heard]).to(STORED[listener.stored])),
        tokens=HostCopy(sent.tokens),
        generations=[HostCopy(column.T.contiguous()) for column in _steps(heard)],
        traces=_traces(heard),
        p_true=None if heard[0].p_true is None else HostCopy(torch.tensor([reply.p_true for reply in heard])),
        p_true_tokens=[reply.p_true_tokens for reply in heard],
        stops=listener.stops,
        stopped={row: reply.stopped for row, reply in enumerate(heard) if reply.stopped is not None},
        columns=[_rest(reply) for reply in heard],
    )


def _rest(answer: Heard) -> dict[str, Any]:
    return {"entropy_rests": list(answer.rests[: answer.n_kept])} if answer.rests else {}


def _steps(heard: Sequence[Heard]) -> list[Tensor]:
    """Return ``[B, A]`` token ids, log-probs, entropies and whether each token belongs to its answer."""
    ids, kept = _padded([(answer.token_ids, answer.n_kept) for answer in heard])
    logprobs, entropies = (torch.zeros(ids.shape) for _ in range(2))
    for row, answer in enumerate(heard):
        logprobs[row, : len(answer.logprobs)] = torch.tensor(answer.logprobs)
        entropies[row, : len(answer.entropies)] = torch.tensor(answer.entropies)
    return [ids, logprobs, entropies, kept]


def _traces(heard: Sequence[Heard]) -> dict[str, tuple[HostCopy, HostCopy]]:
    made = {}
    for style in heard[0].traces:
        ids, kept = _padded([trace for answer in heard for trace in answer.traces[style]])
        made[style] = (HostCopy(ids), HostCopy(kept))
    return made


def _padded(rows: Sequence[tuple[Sequence[int], int]]) -> tuple[Tensor, Tensor]:
    """Return ``[R, A]`` token ids, and which of them belong to an answer."""
    longest = max((len(ids) for ids, _ in rows), default=0)
    ids, kept = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, (said, n_kept) in enumerate(rows):
        ids[row, : len(said)] = torch.tensor(said, dtype=torch.long)
        kept[row, :n_kept] = True
    return ids, kept
