"""Tiny benchmark: colour, shape and place of one object."""

from relope.extract.data.dataset import DataSet
from relope.tiny import benchmark

DATASET = DataSet(
    name="tiny-shapes",
    splits=tuple(benchmark.SIZES),
    load=lambda split, limit: benchmark.samples("tiny-shapes", ("shapes",), split, limit),
    identity={"source": "relope.tiny", "family": "shapes", "version": benchmark.VERSION},
    license=lambda: benchmark.LICENSE,
    max_new_tokens=8,
)
