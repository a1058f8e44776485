"""How long the answers of a store took: each at an endpoint, or by the runs that computed them."""

from collections.abc import Iterator

import polars as pl

from relope.evaluate.numbers.answer_seconds import AnswerSeconds, of_each
from relope.store import ActivationStore
from relope.store.made import Took, read_made


def seconds_of(store: ActivationStore, ids: pl.Series) -> list[AnswerSeconds]:
    """Return what is known of the seconds that answers took, a row of each way to measure them.

    Args:
        store: of a model.
        ids: samples that count of those that were measured one by one; runs count whole, whatever their splits.
    """
    model, samples = str(store.manifest.recorded["model"]), store.samples
    rows = []
    if "latency_s" in samples.columns:
        measured = samples.filter(pl.col("id").is_in(ids.implode()))["latency_s"].drop_nulls()
        rows += [of_each(model, measured.to_list())] if len(measured) else []
    return [*rows, *_of_runs(model, store)]


def _of_runs(model: str, store: ActivationStore) -> Iterator[AnswerSeconds]:
    """Yield a row for each device and engine, its runs summed."""
    runs_at: dict[str, list[Took]] = {}
    for entry in read_made(store.path):
        if (took := entry.took) is not None:
            runs_at.setdefault(f"{took.device}, {took.engine}, batches of {took.batch_size}", []).append(took)
    for where, runs in runs_at.items():
        n = sum(took.samples for took in runs)
        seconds = sum(took.seconds - (took.seconds_beside or 0.0) for took in runs)
        unknown = any(took.seconds_beside is None for took in runs)
        yield AnswerSeconds(model=model, where=where, n=n, mean=max(0.0, seconds) / n, holds_traces=unknown)
