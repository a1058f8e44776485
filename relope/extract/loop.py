"""The extraction loop: samples → batches → model → store, each on a thread of its own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from torch import Tensor

from relope.extract.backbone import Backbone
from relope.extract.generate import Answered, answer_batch, captures, generations
from relope.extract.plan import Unit
from relope.extract.samples import input_digest
from relope.extract.transfer import Behind, ahead
from relope.store import PartWriter, StoreWriter
from relope.types import Generation, Progress, Sample, no_progress

Prepared = tuple[Sequence[Sample], dict[str, Tensor]]


def run_units(
    backbone: Backbone,
    writer: StoreWriter,
    units: Sequence[Unit],
    samples: Mapping[str, Sample],
    *,
    max_new_tokens: int,
    text_only: bool = False,
    progress: Progress = no_progress,
) -> None:
    """Compute every unit and seal each as a part.

    Args:
        backbone: the opened model.
        writer: the store that is written.
        units: what to compute, from ``make_plan``.
        samples: id → sample, for every id in the units.
        max_new_tokens: upper bound of an answer's length.
        text_only: put captions in place of pictures.
        progress: told the number of samples done and planned.
    """
    manifest = writer.manifest
    total = sum(len(unit.ids) for unit in units)
    done = 0
    with closing(ahead(_prepare(backbone, units, samples, text_only))) as prepared:
        for unit in units:
            with writer.part(unit.ids) as part, Behind() as behind:
                for _ in unit.batches():
                    batch, inputs = next(prepared)
                    answered = answer_batch(backbone, inputs, manifest.layers, max_new_tokens, manifest.dtype)
                    behind.submit(_Write(backbone, part, batch, answered, manifest.token_layers))
                    done += len(batch)
                    progress(done, total)


def _prepare(
    backbone: Backbone, units: Sequence[Unit], samples: Mapping[str, Sample], text_only: bool
) -> Iterator[Prepared]:
    for unit in units:
        for ids in unit.batches():
            batch = [samples[name] for name in ids]
            yield batch, backbone.inputs(batch, text_only)


class _Write:
    """Appends one answered batch to its part; runs on the writer's thread."""

    def __init__(
        self, backbone: Backbone, part: PartWriter, batch: Sequence[Sample], answered: Answered, layers: Sequence[int]
    ) -> None:
        self.backbone, self.part, self.batch, self.answered, self.layers = backbone, part, batch, answered, layers

    def __call__(self) -> None:
        tokenizer = getattr(self.backbone.processor, "tokenizer", self.backbone.processor)
        said = generations(self.answered, lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True).strip())
        rows = [sample_row(sample, answer) for sample, answer in zip(self.batch, said, strict=True)]
        self.part.append(rows, captures(self.answered, self.layers))


def sample_row(sample: Sample, generation: Generation) -> dict[str, Any]:
    """Return one row of ``samples.parquet``: the question, and what the model said."""
    return {
        "id": sample.id,
        "dataset": sample.dataset,
        "split": sample.split,
        "group": sample.group or (sample.pictures[0].digest if sample.pictures else sample.id),
        "question": sample.question,
        "choices": list(sample.choices),
        "answers": list(sample.answers),
        "input": input_digest(sample),
        "image_digests": [picture.digest for picture in sample.pictures],
        "kind": str(sample.meta.get("kind", "")),
        "family": str(sample.meta.get("family", sample.dataset)),
        "response": generation.text,
        "token_ids": list(generation.token_ids),
        "logprobs": list(generation.logprobs),
        "entropies": list(generation.entropies),
        "finish_reason": generation.finish_reason,
    }
