"""A shared place, and calls of it that fail."""

import shutil
import threading

import pytest
from made_stores import make_capture, write_part

from relope.store.share.remote_folder import FolderRemote
from relope.store.share.remote_objects import ObjectRemote


@pytest.fixture
def uri(team):
    return f"{team}/x.zarr"


@pytest.fixture
def fail(uri, monkeypatch):
    """Let a remote's method fail once, on its n-th call from now."""
    kind = FolderRemote if uri.startswith("file") else ObjectRemote

    def _fail(method, n, error=KeyboardInterrupt):
        real, calls, lock = getattr(kind, method), [], threading.Lock()

        def failing(self, *arguments):
            with lock:
                calls.append(1)
                now = len(calls) == n
            if now:
                raise error("stopped by the test")
            return real(self, *arguments)

        monkeypatch.setattr(kind, method, failing)

    return _fail


@pytest.fixture
def rivals(build):
    """Two people whose machines computed the same part, with other last bits."""
    one, two = build("a.zarr", parts=["ac"]), build("b.zarr", parts=["g"])
    captures = {name: make_capture(name, two.manifest) for name in "ac"}
    captures["a"].answer[0] ^= 1
    part = write_part(two.writer, "ac", captures)
    shutil.rmtree(two.folder())
    (two.path / "catalog" / "1.json").unlink()
    two.writer.publish()
    assert part == one.parts[0]
    return one, two
