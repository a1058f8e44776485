"""Tiny benchmark: a handwritten digit."""

from relope.extract.data.dataset import DataSet
from relope.tiny import benchmark

DATASET = DataSet(
    name="tiny-digits",
    splits=tuple(benchmark.SIZES),
    load=lambda split, limit: benchmark.samples("tiny-digits", ("digits",), split, limit),
    identity={"source": "relope.tiny", "family": "digits", "version": benchmark.VERSION},
    license=lambda: benchmark.LICENSE,
    max_new_tokens=8,
)
