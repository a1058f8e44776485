"""Examples of the small store, labelled for training or bare for prediction."""

import numpy as np
import pytest

from relope.grades import labelled
from relope.probes import Examples


@pytest.fixture
def training(store):
    """160 labelled training examples at layer 4."""
    rows, correct = labelled(store, ("train",), None)
    return Examples(store, rows, correct, 4)


@pytest.fixture
def testing(store):
    """80 test examples without labels."""
    rows, _ = labelled(store, ("test",), None)
    return Examples(store, rows, None, 4)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
