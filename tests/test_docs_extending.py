"""docs/extending.md: its package is written as it stands there, found by its entry points, and used."""

import json
import tomllib
from pathlib import Path

import pytest
from pages import Walk
from stepping import step

from relope import registry
from relope.probes.protocol import Probe
from relope.store import open_store

PAGE = "docs/extending.md"
KINDS = {"datasets", "graders", "backbones", "methods", "importers"}


class Package(Walk):
    """The page's walk: its Python files are written, and what its TOML says is installed."""

    def perform(self, block):
        if block.language == "toml":
            install(Path.cwd(), tomllib.loads(block.text))
        elif block.language == "python":
            Path(block.text.split('"""', 1)[1].split(":", 1)[0]).write_text(block.text, encoding="utf-8")
        else:
            yield from super().perform(block)


WALK = Package(PAGE)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The page, worked through: the folder, and what its commands said."""
    folder = tmp_path_factory.mktemp("plugins")
    with pytest.MonkeyPatch.context() as patch, WALK as walk:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        found = registry._entry_points
        found.cache_clear()
        walk.run_all()
        yield folder, walk
    found.cache_clear()


def install(folder, project):
    """Put down what `pip install` would: the package's name and its entry points."""
    name, version = project["project"]["name"], project["project"]["version"]
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (folder / "my_plugins").mkdir()
    (folder / "my_plugins" / "__init__.py").touch()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = project["project"]["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    assert {group.removeprefix("relope.") for group, _ in groups} == KINDS


def test_a_store_of_the_plug_ins(walked):
    with open_store(walked[0] / "runs/colours.zarr") as made:
        assert made.layers == (2, 3) and len(made) == 100
        assert made.manifest.recorded["model"] == "early-vl"
    assert (walked[0] / "runs/colours.zarr/grades/first-word@1.parquet").is_file()


def test_the_method_is_compared_with_the_others(walked):
    folder, walk = walked
    (told,) = [text for line, text in walk.said.items() if line.startswith("relope evaluate")]
    assert "mean-difference" in told
    assert "from my_plugins.mean_difference" in " ".join(walk.said["relope list methods"].split())
    report = json.loads((folder / "runs/tiny.zarr.report/report.json").read_text())
    (row,) = [row for row in report["methods"] if row["method"] == "mean-difference"]
    assert row["n_train"] == 200


def test_the_method_obeys_the_protocol(walked):
    import my_plugins.mean_difference as plugin

    asked = {name for name in {*vars(Probe), *Probe.__annotations__} if not name.startswith("_")}
    assert {"fit", "predict_proba", "traits"} <= asked <= {*dir(plugin.Method), "params"}


def test_the_importer_reads_what_it_says(walked):
    folder, _ = walked
    with open_store(folder / "runs/tiny.zarr") as store:
        ids = store.samples["id"].to_list()
    (folder / "x.json").write_text(json.dumps({"said": {name: {"answer": "7", "right": False} for name in ids}}))
    step("import", files=[folder / "x.json"], store=folder / "runs/tiny.zarr", model="other", out=folder / "o.zarr")
    assert len(open_store(folder / "o.zarr")) == len(ids)
