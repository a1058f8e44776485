"""The extraction loop: samples → batches → model → store, each on a thread of its own."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import chain, islice
from typing import Any, Protocol

from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import Answered, captures, extra_columns, generations
from relope.extract.model.overlap import BackgroundQueue, prefetch
from relope.extract.plan import Unit
from relope.extract.sample_rows import sample_row
from relope.extract.thumbnails import thumbnails_of
from relope.store import PartWriter, StoreWriter
from relope.types import Sample


class Answering(Protocol):
    """Answers batches, here (`Batches`) or in another process."""

    backbone: Backbone
    text_only: bool

    def prepare(self, samples: Sequence[Sample]) -> Any:
        """Return what a batch is answered by; called one after another, on a thread of its own, ahead of `answer`."""

    def answer(self, samples: Sequence[Sample], prepared: Any) -> Iterator[tuple[Sequence[Sample], Answered]]:
        """Yield the answers of a batch, in one or more pieces that keep its order."""


ReadyBatch = tuple[Unit, Sequence[Sample], Any]
"""The unit of a batch, its samples, and what `Answering.prepare` has made of them."""


def run_units(
    batches: Answering,
    writer: StoreWriter,
    units: Iterable[Unit],
    samples: Mapping[str, Sample],
    *,
    thumbnails: bool = True,
    answered: Callable[[int], None] = lambda n: None,
    ended: Callable[[Unit], None] = lambda unit: None,
    ahead: int = 2,
) -> float:
    """Compute every unit and seal each as a part.

    Args:
        batches: answers a batch.
        writer: the store that is written.
        units: what to compute, from ``make_plan``; asked for on another thread, when the batches before are prepared.
        samples: id → sample, for every id in the units.
        thumbnails: keep a small picture of every image that the model sees.
        answered: told the number of samples that were answered, again and again.
        ended: told each unit whose part is sealed, on a thread of its own.
        ahead: batches that are prepared before they are answered.

    Returns:
        The seconds that the model waited for data.
    """
    waited = 0.0
    sealed: Future[None] | None = None

    def timed(made: Iterator[ReadyBatch]) -> Iterator[ReadyBatch]:
        nonlocal waited
        while True:
            begun = time.perf_counter()
            batch = next(made, None)
            waited += time.perf_counter() - begun
            if batch is None:
                return
            yield batch

    def seal(unit: Unit, opened: ExitStack) -> None:
        opened.close()
        ended(unit)

    made = prefetch(_ready(batches, units, samples), ahead)
    with ThreadPoolExecutor(1, "relope-seal") as sealer, closing(made):
        ready = timed(made)
        for first in ready:
            unit = first[0]
            pictured: set[str] | None = set() if thumbnails and not batches.text_only else None
            with ExitStack() as opened:
                part, writes = opened.enter_context(writer.part(unit.ids)), opened.enter_context(BackgroundQueue())
                for _, batch, prepared in chain([first], islice(ready, len(unit.batches()) - 1)):
                    for piece, answers in batches.answer(batch, prepared):
                        layers = writer.manifest.token_layers
                        writes.submit(_Write(batches.backbone, part, piece, answers, layers, pictured))
                        answered(len(piece))
                if sealed is not None:
                    sealed.result()
                # The disk takes as long as some batches to seal a part: the model goes on meanwhile, one part ahead.
                sealed = sealer.submit(seal, unit, opened.pop_all())
        if sealed is not None:
            sealed.result()
    return waited


def _ready(batches: Answering, units: Iterable[Unit], samples: Mapping[str, Sample]) -> Iterator[ReadyBatch]:
    for unit in units:
        for ids in unit.batches():
            batch = [samples[name] for name in ids]
            yield unit, batch, batches.prepare(batch)


class _Write:
    """Appends one answered batch to its part; runs on the writer's thread."""

    def __init__(
        self,
        backbone: Backbone,
        part: PartWriter,
        batch: Sequence[Sample],
        answered: Answered,
        layers: Sequence[int],
        pictured: set[str] | None,
    ) -> None:
        self.backbone, self.part, self.batch, self.answered, self.layers = backbone, part, batch, answered, layers
        self.pictured = pictured

    def __call__(self) -> None:
        decode = self.backbone.decode
        said, more = generations(self.answered, decode), extra_columns(self.answered, decode)
        rows = [
            sample_row(sample, answer) | extra for sample, answer, extra in zip(self.batch, said, more, strict=True)
        ]
        pictures = {} if self.pictured is None else thumbnails_of(self.batch, self.pictured)
        self.part.append(rows, captures(self.answered, self.layers), pictures)
