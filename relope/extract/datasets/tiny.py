"""Tiny benchmark, all five families in turn: what the demo runs on."""

from relope.extract.data.dataset import DataSet
from relope.tiny import benchmark

DATASET = DataSet(
    name="tiny",
    splits=tuple(benchmark.SIZES),
    load=lambda split, limit: benchmark.samples("tiny", benchmark.ALL, split, limit),
    identity={"source": "relope.tiny", "family": "all", "version": benchmark.VERSION},
    license=lambda: benchmark.LICENSE,
    max_new_tokens=8,
)
