"""A part is sealed while the model is at the next one; what fails later does not take it along."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from relope.extract import loop
from relope.extract.plan import Unit
from relope.types import Sample

UNITS = [Unit((f"a{number}", f"b{number}"), 1) for number in range(3)]
SAMPLES = {name: Sample(name, "x", "test", "?", ("y",)) for unit in UNITS for name in unit.ids}


class Writer:
    """Notes which parts are sealed and which are dropped; sealing waits for ``may_seal``."""

    def __init__(self):
        self.sealed, self.dropped, self.may_seal = [], [], threading.Event()
        self.manifest = SimpleNamespace(token_layers=())

    @contextmanager
    def part(self, ids):
        try:
            yield SimpleNamespace(append=lambda *rows: None)
        except BaseException:
            self.dropped.append(ids)
            raise
        assert self.may_seal.wait(10), "the model did not go on"
        self.sealed.append(ids)


def run(writer, answer, monkeypatch):
    batches = SimpleNamespace(
        text_only=True, backbone=None, prepare=lambda batch: {}, answer=lambda batch, inputs: [(batch, answer(batch))]
    )
    monkeypatch.setattr(loop, "_Write", lambda *arguments: lambda: None)
    return loop.run_units(batches, writer, UNITS, SAMPLES)


def test_the_model_goes_on_while_a_part_is_sealed(monkeypatch):
    writer = Writer()

    def answer(batch):
        if batch[0].id == "b1":  # the second part is computed, and the first one is not sealed yet
            assert writer.sealed == []
            writer.may_seal.set()
        return np.zeros(1)

    run(writer, answer, monkeypatch)
    assert writer.sealed == [unit.ids for unit in UNITS] and not writer.dropped


def test_a_part_that_was_whole_is_sealed_though_the_next_one_fails(monkeypatch):
    writer = Writer()

    def answer(batch):
        if batch[0].id == "a1":
            writer.may_seal.set()
            raise KeyboardInterrupt
        return np.zeros(1)

    with pytest.raises(KeyboardInterrupt):
        run(writer, answer, monkeypatch)
    assert writer.sealed == [UNITS[0].ids] and writer.dropped == [UNITS[1].ids]
