"""Tiny benchmark: a small bar chart."""

from relope.extract.data.dataset import DataSet
from relope.tiny import benchmark

DATASET = DataSet(
    name="tiny-bars",
    splits=tuple(benchmark.SIZES),
    load=lambda split, limit: benchmark.samples("tiny-bars", ("bars",), split, limit),
    identity={"source": "relope.tiny", "family": "bars", "version": benchmark.VERSION},
    license=lambda: benchmark.LICENSE,
    max_new_tokens=8,
)
