"""What is looked at: samples with both models' answers and grades, and where each router's queue has them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from relope.evaluate.numbers.metrics import Bools, Floats, Ints
from relope.evaluate.numbers.routing import escalation_order, n_escalated

UNKNOWN, WRONG, RIGHT = -1, 0, 1
"""What is known of an answer."""


@dataclass(frozen=True)
class Answers:
    """One model's answers to the samples.

    Attributes:
        model: its name.
        grader: ``grader@version`` that judged them.
        table: ``[N]`` rows of ``response``, ``correct`` (null: nobody knows), ``parsed``, ``parse_status`` and
            ``finish_reason``; null where the store lacks the sample.
    """

    model: str
    grader: str
    table: pl.DataFrame

    @functools.cached_property
    def graded(self) -> Ints:
        """``[N]`` what the grader says: `RIGHT`, `WRONG` or `UNKNOWN`."""
        return self.table["correct"].cast(pl.Int64).fill_null(UNKNOWN).to_numpy()


@dataclass(frozen=True)
class Queue:
    """One router's scores, and in which order it would escalate.

    Attributes:
        name: of the router.
        score: ``[N] float64`` P(correct); NaN where it has scored nothing.
        orders: indices of the samples that share a budget, first to be escalated first: those of a split, or of a
            report. A sample that nobody could judge is in none.
    """

    name: str
    score: Floats
    orders: Sequence[Ints]

    @functools.cached_property
    def order_of(self) -> Ints:
        """``[N]`` number of the order that holds each sample, -1 for none."""
        number_of_order = np.full(len(self.score), -1)
        for number, order in enumerate(self.orders):
            number_of_order[order] = number
        return number_of_order

    def escalated(self, percent: int) -> Bools:
        """Return ``[N]`` which samples go to the large model at a budget; as in the report, ⌈r·n⌉ of each order."""
        is_escalated = np.zeros(len(self.score), bool)
        for order in self.orders:
            is_escalated[order[: n_escalated(len(order), percent)]] = True
        return is_escalated

    def cut(self, percent: int, number: int) -> float | None:
        """Return the highest score that is escalated in the order of a sample; None where nothing is."""
        if (which := int(self.order_of[number])) < 0:
            return None
        order = self.orders[which]
        k = n_escalated(len(order), percent)
        return float(self.score[order[k - 1]]) if k else None


def queue_of(name: str, score: Floats, parts: Sequence[Ints], seed: int) -> Queue:
    """Return the queue of a router.

    Args:
        name: of the router.
        score: ``[N]``.
        parts: indices of the samples that share a budget; those without a score are left out.
        seed: of ties, as in the report.
    """
    scored = [part[np.isfinite(score[part])] for part in parts]
    return Queue(name, score, [part[escalation_order(score[part], seed)] for part in scored if len(part)])


@dataclass(frozen=True)
class Board:
    """All that is looked at.

    Attributes:
        title: what of which data set.
        source: the store, or the report, as it was named.
        version: changes with the samples, so that a browser keeps no image of another store.
        samples: ``[N]`` rows: ``row`` in the store, ``id``, ``split``, ``question``, ``choices``, ``answers``,
            ``n_images`` and ``group``.
        small: the small model's answers.
        large: the large one's, where its store is known.
        queues: of the routers.
        subjects: column → ``[N]`` its values as text, by which the samples are cut in the report too.
        notes: what must be said of all that.
        pictured: whether the store keeps small pictures, which the list shows.
    """

    title: str
    source: str
    version: str
    samples: pl.DataFrame
    small: Answers
    large: Answers | None
    queues: tuple[Queue, ...]
    subjects: Mapping[str, pl.Series]
    notes: Sequence[str] = ()
    pictured: bool = False

    def __len__(self) -> int:
        """Return N."""
        return len(self.samples)

    @functools.cached_property
    def number_of(self) -> dict[str, int]:
        """Id → its index among the N."""
        return {name: number for number, name in enumerate(self.samples["id"])}

    @functools.cached_property
    def words(self) -> pl.Series:
        """``[N]`` what is searched: id, question, choices, gold answers and both responses, in small letters."""
        lists = [pl.col(name).list.join(" ") for name in ("choices", "answers")]
        large = [] if self.large is None else [self.large.table["response"].alias("large")]
        frame = self.samples.with_columns(self.small.table["response"].alias("small"), *large)
        texts = ["id", "question", *lists, "small", *(series.name for series in large)]
        return frame.select(pl.concat_str(texts, separator="\n", ignore_nulls=True).str.to_lowercase()).to_series()

    @functools.cached_property
    def groups(self) -> Ints:
        """``[N]`` group numbers from 0: samples of one image."""
        return np.unique(self.samples["group"].to_numpy(), return_inverse=True)[1]

    @functools.cached_property
    def spread(self) -> Floats:
        """``[N]`` how far apart the routers' scores of each sample are; 0 where fewer than two have one."""
        scores = np.stack([queue.score for queue in self.queues]) if self.queues else np.zeros((1, len(self)))
        low, high = np.where(np.isnan(scores), np.inf, scores), np.where(np.isnan(scores), -np.inf, scores)
        return np.asarray(np.maximum(0.0, high.max(axis=0) - low.min(axis=0)))
