"""A Ray cluster that is joined, or started on this machine, and how many workers of which size it has room for."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from relope.errors import InvalidInputError, NotFoundError, RelopeError, reason_of
from relope.words import counted

ENGINES = ("local", "ray")
"""Where jobs run: on this machine, or on a cluster."""

_KNOCK_S = 10.0
_STORE_BYTES = 128 << 20
"""Of Ray's own object store, where we start it: nothing but names and figures passes through it."""


class ClusterError(RelopeError, RuntimeError):
    """A cluster that cannot be reached, or is gone; what was finished before is kept."""


@dataclass(frozen=True)
class Wanted:
    """What a user asks of a cluster.

    Attributes:
        address: of one that runs, or ``auto``; None starts one on this machine.
        workers: at a time; None = as many as fit, and on CPUs one core less than there are.
        gpus: cards of each; None = one where the cluster has any.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class Crew:
    """How many workers, and what each reserves.

    Attributes:
        workers: that run at a time.
        gpus: cards of one; below 1 it shares a card.
        cpus: cores of one.
    """

    workers: int
    gpus: float
    cpus: int = 1


def check_installed() -> None:
    """Make sure that Ray is there.

    Raises:
        NotFoundError: the extra ``ray`` is not installed.
    """
    if find_spec("ray") is None:
        raise NotFoundError("the engine ray needs the package ray", hint="pip install 'relope[ray]'")


def check_settings(engine: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings of the engine ray for another one, and Ray where it is not installed.

    Args:
        engine: one of `ENGINES`.
        settings: of the engine ray, by name; None = not given.

    Raises:
        InvalidInputError: one is given and means nothing here.
        NotFoundError: Ray is asked for and not installed.
    """
    if engine == "ray":
        check_installed()
    elif given := [name for name, value in settings.items() if value is not None]:
        flags = " ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InvalidInputError(
            f"{', '.join(given)} is not for the engine {engine}", hint=f"add --engine ray, or drop {flags}"
        )


@contextmanager
def joined(wanted: Wanted) -> Iterator[Crew]:
    """Give the workers that are wanted of a cluster; one that was started here ends with the block.

    Raises:
        ClusterError: it cannot be reached.
        InvalidInputError: it never has room for them.
    """
    left_open = _join(wanted.address)
    try:
        yield crew_for(wanted)
    finally:
        if not left_open:
            import ray

            ray.shutdown()


def _join(address: str | None) -> bool:
    """Connect to a cluster, or start one on this machine; return whether it was connected to before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray says is going to be its default
    import ray

    if ray.is_initialized():
        return True
    starts_here = address in (None, "local") and "RAY_ADDRESS" not in os.environ
    own = {"object_store_memory": _STORE_BYTES, "include_dashboard": False} if starts_here else {}
    try:
        _knock(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=address, namespace="relope", logging_level=logging.ERROR, log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"the Ray cluster at {address or os.environ.get('RAY_ADDRESS', 'this machine')} cannot be reached: "
            f"{reason_of(error)}",
            hint="`ray status` says what runs; without --address one is started here",
        ) from error
    return False


def _knock(address: str) -> None:
    """Make sure that somebody listens at ``host:port``, for which Ray would wait without an end.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.rpartition("//")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def crew_for(wanted: Wanted) -> Crew:
    """Return who works, after asking the cluster what it has.

    Raises:
        InvalidInputError: so many, or a single one, can never be placed on the nodes that are there.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_cards = any(node.get("GPU", 0) for node in nodes)
    each = (1.0 if has_cards else 0.0) if wanted.gpus is None else wanted.gpus
    fits = sum(fitting(node, each) for node in nodes)
    count = max(1, fits if each else fits - 1) if wanted.workers is None else wanted.workers
    if count > fits:
        what = "1 CPU" + (f" and {each:g} GPU" if each else "")
        raise InvalidInputError(
            f"{counted(count, 'worker')} of {what} each can never be placed: the cluster has {_told(nodes)}, with "
            f"room for {fits}",
            hint="ask for fewer workers, or for other --gpus-per-worker",
        )
    return Crew(count, each)


def fitting(node: dict[str, float], gpus: float) -> int:
    """Return how many workers of so many cards fit on a node."""
    cores = int(node.get("CPU", 0))
    if not gpus:
        return cores
    cards = node.get("GPU", 0)
    return min(cores, int(cards) * int(1 / gpus) if gpus < 1 else int(cards / gpus))


def _told(nodes: list[dict[str, float]]) -> str:
    kinds = [f"{node.get('CPU', 0):g} CPU + {node.get('GPU', 0):g} GPU" for node in nodes]
    groups = [f"{kinds.count(kind)} × ({kind})" for kind in dict.fromkeys(kinds)]
    return f"{counted(len(nodes), 'node')}: {', '.join(groups) or 'none'}"
