"""Who fits on a cluster: what never does is told with what there is."""

import os

import pytest
from typer.testing import CliRunner

from relope.cli import app
from relope.cluster.crew import Wanted, check_settings, crew_for, fitting
from relope.errors import InvalidInputError, NotFoundError


@pytest.mark.parametrize(
    ("node", "gpus", "fits"),
    [
        ({"CPU": 8}, 0, 8),
        ({"CPU": 8}, 1, 0),
        ({"CPU": 64, "GPU": 8}, 1, 8),
        ({"CPU": 64, "GPU": 8}, 3, 2),
        ({"CPU": 64, "GPU": 2}, 0.5, 4),
        ({"CPU": 3, "GPU": 8}, 1, 3),
        ({"CPU": 64, "GPU": 1}, 0.4, 2),
    ],
)
def test_who_fits_on_a_node(node, gpus, fits):
    assert fitting(node, gpus) == fits


def test_what_can_never_be_placed_is_told_with_what_there_is(ray_cluster):
    for wanted in (Wanted(workers=99), Wanted(workers=1, gpus=1.0), Wanted(gpus=0.5)):
        with pytest.raises(InvalidInputError, match=r"can never be placed: the cluster has 1 node: 1 × \(") as no:
            crew_for(wanted)
        assert "room for" in str(no.value) and "--gpus-per-worker" in no.value.hint
    assert crew_for(Wanted()).workers == max(1, os.cpu_count() - 1)


def test_settings_of_a_cluster_mean_nothing_here(monkeypatch):
    check_settings("local", {"address": None, "workers": None})
    with pytest.raises(InvalidInputError, match="workers is not for the engine local") as no:
        check_settings("local", {"address": None, "workers": 2})
    assert no.value.hint == "add --engine ray, or drop --workers"
    monkeypatch.setattr("relope.cluster.crew.find_spec", lambda name: None)
    with pytest.raises(NotFoundError, match="needs the package ray"):
        check_settings("ray", {})


@pytest.mark.parametrize("command", [
    ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--limit", "1", "--out", "x.zarr"],
    ["sweep", "question-kind", "--store", "STORE", "--out", "x.parquet"],
    ["run", "tiny-all", "--out", "x"],
])  # fmt: skip
def test_a_cluster_that_is_not_there_is_told(command, store_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    asked = [str(store_path) if word == "STORE" else word for word in command]
    result = CliRunner().invoke(app, [*asked, "--engine", "ray", "--address", "nowhere.invalid:6379"])
    assert result.exit_code == 2 and "nowhere.invalid:6379 cannot be reached" in result.stderr, result.output
    assert len(result.stderr.strip().splitlines()) == 2 and not [*tmp_path.iterdir()]
