"""A shared place, and calls of it that fail."""

import threading

import pytest

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
