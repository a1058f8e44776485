"""What is made again when a version is raised: a method's own results, and nothing for the package's."""

import pytest

from relope import provenance, steps, version
from relope.probes.methods import probe
from relope.spec import build

METHODS = ("probe", "question-kind")


@pytest.fixture
def run(store_path, tmp_path):
    """Fit, predict and sweep two methods; gives (step, method) → whether it was reused."""

    def _run():
        reused = {}
        for method in METHODS:
            few, router = ({"epochs": 1} if method == "probe" else {}), tmp_path / method
            asked = {
                "fit": {"method": method, "set": few, "out": router},
                "predict": {"router": str(router), "out": tmp_path / f"{method}.parquet"},
                "sweep": {"method": method, "set": few, "seeds": 1, "out": tmp_path / f"{method}-runs.parquet"},
            }
            for step, values in asked.items():
                reused[step, method] = steps.run(
                    build(step, {"store": str(store_path), "device": "cpu", **values})
                ).reused
        return reused

    _run()
    assert all(_run().values())
    return _run


def test_a_raised_version_of_a_method_makes_its_results_again_and_no_others(run, monkeypatch):
    monkeypatch.setattr(probe, "VERSION", probe.VERSION + 1)
    assert {key for key, reused in run().items() if not reused} == {
        (step, "probe") for step in ("fit", "predict", "sweep")
    }
    assert all(run().values())


def test_another_version_of_the_package_makes_nothing_again(run, monkeypatch):
    monkeypatch.setattr(version, "__version__", "99.0")
    monkeypatch.setattr(provenance, "__version__", "99.0")
    provenance.versions.cache_clear()
    assert provenance.versions()["relope"] == "99.0"
    assert all(run().values())
    provenance.versions.cache_clear()
