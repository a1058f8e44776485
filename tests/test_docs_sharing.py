"""Every command of docs/sharing.md, in order, against an S3 server and a mount."""

import urllib.request

import pytest
from pages import Walk

from relope.store import ActivationStore

WALK = Walk("docs/sharing.md")


@pytest.fixture(scope="module")
def ran(s3_server, tmp_path_factory):
    """The page, worked through: what each command said."""
    folder = tmp_path_factory.mktemp("team")
    with pytest.MonkeyPatch.context() as patch, WALK as walk:
        patch.chdir(folder)
        patch.setenv("AWS_ENDPOINT_URL", s3_server)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        urllib.request.urlopen(urllib.request.Request(f"{s3_server}/team-bucket", method="PUT")).close()
        (folder / "mnt").mkdir()
        walk.here = {"file:///mnt/team": (folder / "mnt").as_uri()}
        walk.run_all()
        yield folder, walk.said


def test_every_verb_was_run(ran):
    assert len(ran[1]) >= 20
    for verb in ("push", "pull", "ls", "merge", "gc", "verify", "info"):
        assert any(line.startswith(f"relope store {verb} ") for line in ran[1]), verb


def said_by(ran, start):
    return next(text for line, text in ran[1].items() if line.startswith(start))


def test_what_the_page_promises_holds(ran):
    folder = ran[0]
    assert "60 samples taken from s3://team-bucket; 20 samples in" in said_by(
        ran, "relope extract --model tiny-vl --dataset tiny --split train --limit"
    )
    small = ActivationStore.open(folder / "runs" / "small.zarr")
    assert small.layers == (4,) and set(small.samples["split"]) == {"train"} and small.manifest.recorded["subset_of"]
    both = ActivationStore.open(folder / "runs" / "both.zarr")
    assert len(both) == 130 and len(both.excluded) == 60
    assert (folder / "mnt" / "both.zarr" / "catalog" / "1.json").exists()
    assert "catalog/1.json" in said_by(ran, "relope store gc s3://")
    (page,) = (folder / "runs").glob("tiny.zarr-????????-????????.report/report.html")
    assert page.is_file()
