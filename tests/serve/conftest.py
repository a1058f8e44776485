"""A relope server over real HTTP, with an engine without a model and an upstream of this machine."""

import pytest
from made_bundle import made_bundle
from stub_engine import StubEngine
from upstream_stub import served, upstream


@pytest.fixture
def large():
    """The upstream: its base URL and its state."""
    with upstream() as (url, state):
        yield url, state


@pytest.fixture
def serving(large):
    """Give a function that starts a server: it returns its address, its service and the upstream's state."""
    import contextlib

    from relope.serve.large import LargeModel
    from relope.serve.service import Options, Service

    with contextlib.ExitStack() as stack:

        def start(engine=None, access=None, model=None, **options):
            url, state = large
            asked = {"base_url": url, "name": "big", "key": "sk-of-the-operator", "retries": 1, **(model or {})}
            service = Service(made_bundle(), engine or StubEngine(), LargeModel(**asked), Options(**options))
            return stack.enter_context(served(service, access)), service, state

        yield start
