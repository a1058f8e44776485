"""Answers that no model of ours gave, as a store: those of an endpoint, or what another tool has written.

::

    writer = create_or_open(out, answers_manifest(identity, {"model": "gpt-4.1", "dataset": "aokvqa"}, "auto"))
    seal_answers(writer, [(sample, Answer("a cat", usage=Usage(prompt_tokens=312, completion_tokens=3)))])
    writer.publish()
    store = open_store(out)
    write_labels(store, {sample.id: True}, grade_store(store, None, count=False).grades, IMPORTED)  # what the tool said
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from relope.extract.sample_rows import asked_columns
from relope.extract.thumbnails import thumbnails_of
from relope.store import Identity, StoreManifest, StoreWriter
from relope.types import Answer, Sample

PART_ANSWERS = 1024
"""Answers in a part at most."""


def answers_manifest(identity: Mapping[str, Any], recorded: Mapping[str, Any], grader: str) -> StoreManifest:
    """Return the manifest of a store of answers only.

    Args:
        identity: what decides the answers; at least ``model`` (its name), ``dataset`` (the data set's identity)
            and ``generation``.
        recorded: what is shown, never keyed; at least ``model`` and ``dataset``, by name.
        grader: that judges the answers when none is named.
    """
    return StoreManifest(
        identity=Identity(identity),
        layers=(),
        hidden_size=0,
        dtype="",
        token_columns=(),
        recorded=dict(recorded),
        grader=grader,
    )


def answer_row(sample: Sample, answer: Answer) -> dict[str, Any]:
    """Return one row of ``samples.parquet``."""
    return {**asked_columns(sample), **answer_columns(answer)}


def answer_columns(answer: Answer) -> dict[str, Any]:
    """Return the columns that say what was answered, whoever was asked."""
    return {
        "response": answer.text,
        "logprobs": None if answer.logprobs is None else list(answer.logprobs),
        "entropies": None if answer.entropies is None else list(answer.entropies),
        "finish_reason": answer.finish_reason,
        "answered_by": answer.answered_by,
        **vars(answer.usage),
    }


def seal_answers(
    writer: StoreWriter,
    answered: Sequence[tuple[Sample, Answer]],
    *,
    thumbnails: bool = True,
    pictures: MutableMapping[str, bytes] | None = None,
) -> list[str]:
    """Write answers into sealed parts, in the order in which they come; return the ids of the parts.

    They count for readers once the writer publishes them.

    Args:
        writer: of a store of answers only.
        answered: samples that the store lacks, as `relope.extract.view.View.worded` shows them, with their answers.
        thumbnails: keep a small picture of every image.
        pictures: image digest → small picture, of those that were made before; they are taken out of it.
    """
    parts, pictured = [], set[str]()
    for start in range(0, len(answered), PART_ANSWERS):
        piece = answered[start : start + PART_ANSWERS]
        small = thumbnails_of([sample for sample, _ in piece], pictured, pictures) if thumbnails else {}
        parts += seal_rows(writer, [answer_row(*pair) for pair in piece], small)
    return parts


def seal_rows(
    writer: StoreWriter, rows: Sequence[Mapping[str, Any]], thumbnails: Mapping[str, bytes] | None = None
) -> list[str]:
    """Write rows of answers into sealed parts, in their order; return the ids of the parts.

    Args:
        writer: of a store of answers only.
        rows: as `answer_row` makes them, of samples that the store lacks.
        thumbnails: image digest → small picture, of the first part's images.
    """
    parts, pictures = [], dict(thumbnails or {})
    for start in range(0, len(rows), PART_ANSWERS):
        piece = rows[start : start + PART_ANSWERS]
        with writer.part([str(row["id"]) for row in piece]) as part:
            part.append([dict(row) for row in piece], thumbnails=pictures)
        parts.append(part.id)
        pictures = {}
    return parts
