"""A store of answers only, as an endpoint or an importer leaves it: the answers of another store, told again."""

from pathlib import Path

from relope.extract.answer_store import answers_manifest, seal_answers
from relope.extract.data.open import open_dataset
from relope.extract.view import View
from relope.store import create_or_open, open_store
from relope.types import Answer, Usage


def retold(
    source: Path,
    out: Path,
    *,
    split: str = "test",
    limit: int = 80,
    model: str = "told",
    confident: bool = True,
    text=lambda row, number: row["response"],
):
    """Write the answers of a store of ``tiny`` as another model's, with what they took; return the store's path.

    ``text`` says what is answered to a row of the store and its number.
    """
    dataset = open_dataset("tiny")
    said = {row["id"]: row for row in open_store(source).samples.iter_rows(named=True)}
    identity = {
        "model": model,
        "dataset": dataset.identity,
        "text_only": False,
        "generation": {"greedy": True, "max_new_tokens": 64},
    }
    writer = create_or_open(out, answers_manifest(identity, {"model": model, "dataset": "tiny"}, dataset.grader))
    answered = [
        (sample, _answer(said[sample.id], number, confident, text))
        for number, sample in enumerate(View().worded(dataset.load(split, limit)))
        if sample.id in said
    ]
    seal_answers(writer, answered)
    writer.publish()
    return out


def _answer(row, number, confident, text):
    usage = Usage(100 + number, len(row["token_ids"]), 10, 0.25, None)
    told = (tuple(row["logprobs"]), tuple(row["entropies"])) if confident else (None, None)
    return Answer(text(row, number), *told, row["finish_reason"], usage, "told-2026-01-01")
