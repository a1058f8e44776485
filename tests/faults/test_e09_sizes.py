"""E9, stores and routers: regular files only, sizes held against the file before memory is taken."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from made_stores import furnish, make_store

from relope.errors import RelopeError, StoreError
from relope.probes.files import load_state, save_state
from relope.probes.methods.attention_probe import Method as AttentionProbe
from relope.probes.methods.probe import Method as Probe
from relope.probes.methods.relope import Method as Relope
from relope.probes.replay import _check_sizes
from relope.seals import read_plain
from relope.store import open_store, verify
from relope.store.grades import read_grades


@pytest.mark.parametrize("name", ["zarr.json", "grades/exact@1.parquet", "plan.json", "block_3/block.safetensors"])
def test_e9_a_pipe_is_never_waited_for(tmp_path: Path, name: str) -> None:
    store = furnish(make_store(tmp_path / "x.zarr")).path
    (store / name).unlink()
    os.mkfifo(store / name)
    assert verify(store)
    with pytest.raises(RelopeError):
        read_grades(open_store(store), None)
        read_plain(store / name)


def test_e9_only_regular_files_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"12345")
    for path, limit in ((Path("/dev/zero"), 10), (tmp_path, 10), (tmp_path / "big", 4), (tmp_path / "none", 4)):
        with pytest.raises(RelopeError):
            read_plain(path, limit)
    assert read_plain(tmp_path / "big", 5) == b"12345"


@pytest.mark.parametrize("method", [Probe, AttentionProbe, Relope])
def test_e9_widths_are_held_against_the_weights(tmp_path: Path, method: type) -> None:
    settings = {"params": method.Params().model_dump(), "width": 10**9, "layer": 4, "module": "", "base": {}}
    save_state(tmp_path, {**settings, "linears": {"q_proj": [10**9, 10**9]}}, {"x": np.zeros(4, np.float32)})
    with pytest.raises(StoreError, match="by its settings"):
        method.load(tmp_path)
    load_state(tmp_path)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "depth", "head_dim", "num_experts"])
def test_e9_a_block_s_configuration_with_sizes_of_no_model(tmp_path: Path, key: str) -> None:
    config = {"text_config": {"hidden_size": 3584, "num_hidden_layers": 28, "vision": {key: 10**9}}}
    with pytest.raises(StoreError, match=f"has {key} 1,000,000,000, which no model has"):
        _check_sizes(tmp_path, json.loads(json.dumps(config)))


def test_e09_a_small_file_takes_no_more_memory_than_it_has_bytes(tmp_path):
    (tmp_path / "small.json").write_bytes(b"{}")
    tracemalloc.start()
    try:
        assert read_plain(tmp_path / "small.json") == b"{}"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
