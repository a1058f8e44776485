"""A small world to attack: a store, routers, scores, and what each command makes of them when nothing is wrong."""

from pathlib import Path

import pytest
from assault import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world, made once; each assault takes back what it changed."""
    return make_world(Path(tmp_path_factory.mktemp("attack")))
