"""Examples of the small store, labelled for training or bare for prediction."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_traces import add_traces

from relope.probes.examples import Examples
from relope.store import ActivationStore
from relope.store.grades import labelled, parsed_answers


@pytest.fixture(scope="session")
def traced_path(store_path, tmp_path_factory) -> Path:
    """The small store with everything that any method reads."""
    path = Path(shutil.copytree(store_path, tmp_path_factory.mktemp("traced") / "tiny.zarr"))
    add_traces(path)
    return path


@pytest.fixture
def traced(traced_path):
    """The same, opened."""
    with ActivationStore.open(traced_path) as opened:
        yield opened


@pytest.fixture
def training(traced):
    """160 labelled training examples at layer 4."""
    rows, correct = labelled(traced, ("train",), None)
    return Examples(traced, rows, correct, 4, grades=parsed_answers(traced, rows, None))


@pytest.fixture
def testing(traced):
    """80 test examples without labels."""
    rows, _ = labelled(traced, ("test",), None)
    return Examples(traced, rows, None, 4, grades=parsed_answers(traced, rows, None))


@pytest.fixture
def plain(store):
    """The 80 test examples of a store that holds nothing but a plain extraction."""
    rows, correct = labelled(store, ("test",), None)
    return Examples(store, rows, correct, 4, grades=parsed_answers(store, rows, None))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
