"""benchmarks/gpu.py in miniature, on a CPU: every section runs, and nothing in it fails."""

import gpu
import pytest


@pytest.mark.parametrize("shape", gpu.SHAPES)
def test_every_section_runs(shape, tmp_path):
    sections = gpu.SECTIONS if shape == gpu.SHAPES[0] else ("states", "extract", "exit")
    told = {}
    gpu.measure(gpu.Run("cpu", True, gpu.MINIATURE, tmp_path), sections, [shape], told.update)
    assert not [name for name in told if "FAILED" in name]
    assert told[f"{shape}: captured states, sdpa, off a truncated forward"].value <= 1e-2
    assert told[f"{shape}: prompts/s"].value > 0
    if shape == gpu.SHAPES[0]:
        replayed = [figure.value for name, figure in told.items() if "replayed" in name]
        assert len(replayed) == 2 and max(replayed) <= 1e-2
