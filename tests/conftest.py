"""Fixtures shared by all tests: the embedded model, opened once, and a small store made with it."""

import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def backbone():
    """The embedded small model in float32."""
    from relope.extract.backbone import open_backbone

    return open_backbone("tiny-vl", "cpu", "float32")


@pytest.fixture(scope="session")
def questions():
    """A few questions of every family, some of them multiple choice."""
    from relope.extract.datasets import open_dataset

    return open_dataset("tiny").load("test", 40)


@pytest.fixture(scope="session")
def store_path(tmp_path_factory) -> Path:
    """A graded float32 store of 160 training and 80 test questions, layers 3 and 4."""
    from relope import steps
    from relope.spec import ExtractSpec

    path = tmp_path_factory.mktemp("runs") / "tiny.zarr"
    for split, limit in (("train", 160), ("test", 80)):
        steps.extract(ExtractSpec(model="tiny-vl", dataset="tiny", split=(split,), limit=limit, out=path, device="cpu"))
    return path


@pytest.fixture
def store(store_path):
    """The small store, opened."""
    from relope.store import ActivationStore

    with ActivationStore.open(store_path) as opened:
        yield opened


@pytest.fixture
def read_json():
    """Read a JSON file."""
    return lambda path: json.loads(Path(path).read_text())
