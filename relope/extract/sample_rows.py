"""One row of ``samples.parquet``: what was asked, and what the model said."""

from typing import Any

from relope.asked import ASKED, asked_digest
from relope.extract.data.flaws import input_digest
from relope.types import Generation, Sample


def sample_row(sample: Sample, generation: Generation) -> dict[str, Any]:
    """Return the row of an answer that a model gave here, token by token."""
    return {
        **asked_columns(sample),
        "response": generation.text,
        "token_ids": list(generation.token_ids),
        "logprobs": list(generation.logprobs),
        "entropies": list(generation.entropies),
        "finish_reason": generation.finish_reason,
    }


def asked_columns(sample: Sample) -> dict[str, Any]:
    """Return the columns that say what a sample asks, whoever answers."""
    images = [image.digest for image in sample.images]
    return {
        "id": sample.id,
        "dataset": sample.dataset,
        "split": sample.split,
        "group": sample.group or (sample.images[0].digest if sample.images else sample.id),
        "question": sample.question,
        "choices": list(sample.choices),
        "answers": list(sample.answers),
        "input": input_digest(sample),
        ASKED: asked_digest(sample.question, sample.choices, sample.hint, images, sample.said_before),
        "image_digests": images,
        "kind": str(sample.meta.get("kind", "")),
        "family": str(sample.meta.get("family", sample.dataset)),
    }
