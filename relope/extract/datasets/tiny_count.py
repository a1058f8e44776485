"""Tiny benchmark: how many dots there are, and their colour."""

from relope.extract.data.dataset import DataSet
from relope.tiny import benchmark

DATASET = DataSet(
    name="tiny-count",
    splits=tuple(benchmark.SIZES),
    load=lambda split, limit: benchmark.samples("tiny-count", ("count",), split, limit),
    identity={"source": "relope.tiny", "family": "count", "version": benchmark.VERSION},
    license=lambda: benchmark.LICENSE,
    max_new_tokens=8,
)
