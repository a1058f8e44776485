"""Fixtures shared by all tests: the embedded model, opened once, and a small store made with it."""

import json
import logging
import os
import threading
import urllib.request
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def backbone():
    """The embedded small model in float32."""
    from relope.extract.model.backbone import open_backbone

    return open_backbone("tiny-vl", "cpu", "float32")


@pytest.fixture(scope="session")
def questions():
    """A few questions of every family, some of them multiple choice."""
    from relope.extract.data.open import open_dataset

    return open_dataset("tiny").load("test", 40)


@pytest.fixture(scope="session")
def store_path(tmp_path_factory) -> Path:
    """A graded float32 store of 160 training and 80 test questions, layers 3 and 4."""
    from relope import steps
    from relope.spec import ExtractSpec

    path = tmp_path_factory.mktemp("runs") / "tiny.zarr"
    for split, limit in (("train", 160), ("test", 80)):
        steps.run(ExtractSpec(model="tiny-vl", dataset="tiny", split=(split,), limit=limit, out=path, device="cpu"))
    return path


@pytest.fixture(scope="session")
def deep_store_path(tmp_path_factory) -> Path:
    """As ``store_path``, of fewer questions and with layers 1 to 4."""
    from relope import steps
    from relope.spec import ExtractSpec

    path = tmp_path_factory.mktemp("runs") / "deep.zarr"
    asked = {"model": "tiny-vl", "dataset": "tiny", "layers": ("1", "2", "3", "4"), "out": path, "device": "cpu"}
    for split, limit in (("train", 300), ("test", 20)):
        steps.run(ExtractSpec(**asked, split=(split,), limit=limit))
    return path


@pytest.fixture
def store(store_path):
    """The small store, opened."""
    from relope.store import ActivationStore

    with ActivationStore.open(store_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray cluster of this machine, started once; everything in this process that joins one gets it.

    Its workers find the helpers of the tests. Gives the address that other processes join it by.
    """
    ray = pytest.importorskip("ray")
    from relope.cluster.crew import Wanted, joined

    with ExitStack() as opened:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent / "helpers"), prepend=os.pathsep)
            opened.enter_context(joined(Wanted()))
        yield ray.get_runtime_context().gcs_address


@pytest.fixture
def read_json():
    """Read a JSON file."""
    return lambda path: json.loads(Path(path).read_text())


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server over HTTP on this machine; gives its address."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        # S3 decides on a conditional put in one step; moto looks first and writes later.
        put, alone = S3Response.put_object, threading.Lock()

        def one_at_a_time(self):
            with alone:
                return put(self)

        patch.setattr(S3Response, "put_object", one_at_a_time)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path):
    """A new bucket, with the environment that reaches it; gives its URI."""
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    bucket = f"team-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{s3_server}/{bucket}", method="PUT")
    with urllib.request.urlopen(request):
        return f"s3://{bucket}"


@pytest.fixture(params=["file", "s3"])
def team(request, tmp_path):
    """Where a team keeps its stores: a shared mount, or a bucket; gives the URI of the folder."""
    if request.param == "s3":
        return request.getfixturevalue("s3")
    (tmp_path / "mount").mkdir()
    return (tmp_path / "mount").as_uri()


@pytest.fixture
def no_waits(monkeypatch):
    """A busy endpoint is asked again at once, and so is one that works on a batch."""
    from relope.extract import batch_asking
    from relope.extract.endpoint import client

    monkeypatch.setattr(client, "_own_wait", lambda attempt: 0.0)
    monkeypatch.setattr(batch_asking, "sleep", lambda seconds: None)
