"""Tiny benchmark: the hour that a clock shows."""

from relope.extract.data.dataset import DataSet
from relope.tiny import benchmark

DATASET = DataSet(
    name="tiny-clock",
    splits=tuple(benchmark.SIZES),
    load=lambda split, limit: benchmark.samples("tiny-clock", ("clock",), split, limit),
    identity={"source": "relope.tiny", "family": "clock", "version": benchmark.VERSION},
    license=lambda: benchmark.LICENSE,
    max_new_tokens=8,
)
