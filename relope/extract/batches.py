"""Batches through the model, cut smaller where they must be: memory that ran out, a rope that changes with length."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from relope.errors import InvalidInputError
from relope.extract.model.backbone import Backbone
from relope.extract.model.extras import Extras
from relope.extract.model.generate import Answered, answer_batch
from relope.types import Sample

log = logging.getLogger(__name__)
Inputs = dict[str, Tensor]


@dataclass
class Batches:
    """Answers batches of samples.

    Attributes:
        backbone: the opened model.
        layers: blocks whose output is kept.
        max_new_tokens: longest answer; 0 = states only.
        stored: dtype in which states leave the device.
        extras: what else is asked of a prompt.
        text_only: captions stand in for images.
        halved: told the ids of a batch that did not fit into memory.
        stops: texts that end an answer.
        largest: samples that are known to fit; None until memory ran out.
        seconds_beside: that traces and p(True) have taken so far.
    """

    backbone: Backbone
    layers: Sequence[int]
    max_new_tokens: int
    stored: str
    extras: Extras = field(default_factory=Extras)
    text_only: bool = False
    halved: Callable[[Sequence[str]], None] = lambda ids: None
    stops: tuple[str, ...] = ()
    largest: int | None = None
    seconds_beside: float = 0.0

    def prepare(self, samples: Sequence[Sample]) -> Inputs:
        """Return a batch's inputs, pinned where the model is on CUDA, so that their copy there waits for nothing."""
        inputs = self.backbone.inputs(samples, self.text_only)
        on_cuda = self.backbone.device.type == "cuda"
        return {name: tensor.pin_memory() for name, tensor in inputs.items()} if on_cuda else inputs

    def answer(self, samples: Sequence[Sample], inputs: Inputs) -> Iterator[tuple[Sequence[Sample], Answered]]:
        """Answer a batch, in one or more pieces that keep its order.

        Raises:
            InvalidInputError: a single sample does not fit into memory.
        """
        pieces = [(piece, inputs if len(piece) == len(samples) else None) for piece in self._pieces(samples, inputs)]
        while pieces:
            piece, made = pieces.pop(0)
            answered = self._try(piece, self.prepare(piece) if made is None else made)
            if answered is None:
                self._halve(piece)
                left = [piece, *(rest for rest, _ in pieces)]
                pieces = [(part, None) for whole in left for part in _cut(whole, self.largest)]
            else:
                yield piece, answered

    def _try(self, samples: Sequence[Sample], inputs: Inputs) -> Answered | None:
        """Return None when the device ran out of memory; by then everything it held is free again."""
        ids = [sample.id for sample in samples]
        try:
            answered = answer_batch(
                self.backbone, inputs, self.layers, self.max_new_tokens, self.stored, self.extras, ids, self.stops
            )
        except torch.cuda.OutOfMemoryError:
            return None
        self.seconds_beside += answered.seconds_beside
        return answered

    def _halve(self, samples: Sequence[Sample]) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(samples) == 1:
            raise InvalidInputError(
                f"sample {samples[0].id!r} alone does not fit into the memory of {self.backbone.device}; what was "
                "finished before is kept",
                hint="use smaller images, --dtype bfloat16, --quantize 4bit or --device-map auto",
            )
        self.largest = (len(samples) + 1) // 2
        log.warning("out of memory with %d samples in a batch: going on with %d", len(samples), self.largest)
        self.halved([sample.id for sample in samples])

    def _pieces(self, samples: Sequence[Sample], inputs: Inputs) -> list[Sequence[Sample]]:
        lengths = inputs["attention_mask"].sum(1).tolist()
        bound = self.backbone.traits.rope_bound
        is_long = [bound is not None and length > bound for length in lengths]
        runs = [list(run) for _, run in groupby(range(len(samples)), key=is_long.__getitem__)]
        return [piece for run in runs for piece in _cut([samples[row] for row in run], self.largest)]


def _cut(samples: Sequence[Sample], largest: int | None) -> list[Sequence[Sample]]:
    size = largest or len(samples)
    return [samples[start : start + size] for start in range(0, len(samples), size)]
