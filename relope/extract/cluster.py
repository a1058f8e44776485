"""Units over the actors of a Ray cluster: who fits where, who gets what next, who is started anew."""

import importlib
import logging
import os
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from relope.errors import InvalidInputError, RelopeError, reason_of
from relope.extract.engine import WORKER, EngineError, Work
from relope.extract.plan import Unit
from relope.words import counted

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 60.0
"""Longest pause before a worker is started anew that dies each time; the first is of one second, the next of two."""

_POLL_S = 0.5
_KNOCK_S = 10.0
_STORE_BYTES = 128 << 20
"""Of Ray's own object store, where we start it: nothing but the ids of units passes through it."""

_DEAD_MODEL = 70
"""Exit code of a worker whose card no longer computes."""


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


def join(address: str | None) -> bool:
    """Connect to a cluster, or start one on this machine; return whether it was connected to before.

    Raises:
        EngineError: it cannot be reached.
    """
    import ray

    if ray.is_initialized():
        return True
    starts_here = address in (None, "local") and "RAY_ADDRESS" not in os.environ
    own = {"object_store_memory": _STORE_BYTES, "include_dashboard": False} if starts_here else {}
    try:
        _knock(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=address, namespace="relope", logging_level=logging.ERROR, log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineError(
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


def crew_for(workers: int | None, gpus: float | None) -> Crew:
    """Return who works, after asking the cluster what it has.

    Args:
        workers: at a time; None = as many as fit, and on CPUs one core less than there are.
        gpus: of each; None = one where the cluster has any.

    Raises:
        InvalidInputError: so many, or a single one, can never be placed on the nodes that are there.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_cards = any(node.get("GPU", 0) for node in nodes)
    each = (1.0 if has_cards else 0.0) if gpus is None else gpus
    fits = sum(_fitting(node, each) for node in nodes)
    count = max(1, fits if each else fits - 1) if workers is None else workers
    if count > fits:
        wanted = "1 CPU" + (f" and {each:g} GPU" if each else "")
        raise InvalidInputError(
            f"{counted(count, 'worker')} of {wanted} each can never be placed: the cluster has {_told(nodes)}, with "
            f"room for {fits}",
            hint="fewer --workers, or another --gpus-per-worker",
        )
    return Crew(count, each)


def pause_s(deaths: int) -> float:
    """Return the seconds before a worker is started anew that has died so often since it last sealed a part."""
    return min(LONGEST_PAUSE_S, 2.0 ** min(deaths, 16))


def _fitting(node: dict[str, float], gpus: float) -> int:
    cores = int(node.get("CPU", 0))
    if not gpus:
        return cores
    cards = node.get("GPU", 0)
    return min(cores, int(cards) * int(1 / gpus) if gpus < 1 else int(cards / gpus))


def _told(nodes: list[dict[str, float]]) -> str:
    kinds = [f"{node.get('CPU', 0):g} CPU + {node.get('GPU', 0):g} GPU" for node in nodes]
    groups = [f"{kinds.count(kind)} × ({kind})" for kind in dict.fromkeys(kinds)]
    return f"{counted(len(nodes), 'node')}: {', '.join(groups) or 'none'}"


class Actor:
    """A worker within Ray: opens the extraction with the first unit, exits when its model is dead."""

    def __init__(self, asked: dict[str, Any]) -> None:
        """Load nothing yet: what goes wrong then could not be told from a machine that is gone."""
        self._asked, self._done = asked, 0
        self._worker: Any = None

    def compute(self, ids: list[str], batch_size: int) -> tuple[str, str] | None:
        """Seal a unit; return message and hint where that is refused."""
        self._done = 0
        try:
            self._worker = self._worker or importlib.import_module(WORKER).Worker(self._asked)
            self._worker.compute(ids, batch_size, self._note)
        except RelopeError as error:
            return str(error), error.hint
        except RuntimeError:
            if self._worker is not None and not _computes(self._worker.device):
                os._exit(_DEAD_MODEL)  # no call to such a card ever succeeds again
            raise
        finally:
            self._done = 0
        return None

    def done(self) -> int:
        """Return the samples of its unit that are done; answered beside ``compute``."""
        return self._done

    def _note(self, done: int, total: int) -> None:
        self._done = done


def _computes(device: Any) -> bool:
    import torch

    try:
        return float(torch.ones(2, device=device).sum()) == 2
    except RuntimeError:
        return False


@dataclass
class _Slot:
    """A place for a worker."""

    actor: Any = None
    task: Any = None
    unit: Unit | None = None
    asking: Any = None
    done: int = 0
    deaths: int = 0
    due: float = 0.0


def compute_on_cluster(crew: Crew, asked: dict[str, Any], work: Work) -> None:
    """Compute every unit; a worker that dies is started anew, after longer and longer pauses, and its unit goes on.

    Raises:
        InvalidInputError: a worker refuses its unit.
        EngineError: the cluster is gone.
    """
    import ray
    from ray.exceptions import RaySystemError

    pool = _Pool(crew, asked, work)
    try:
        pool.run()
    except (RaySystemError, ConnectionError) as error:
        raise EngineError(
            f"the Ray cluster is gone: {reason_of(error)}; what was sealed is kept", hint="run the command again"
        ) from error
    finally:
        for slot in pool.slots:
            if slot.actor is not None and ray.is_initialized():
                ray.kill(slot.actor)


class _Pool:
    def __init__(self, crew: Crew, asked: dict[str, Any], work: Work) -> None:
        import ray

        self._make = ray.remote(
            num_cpus=crew.cpus, num_gpus=crew.gpus, max_restarts=0, max_task_retries=0, max_concurrency=2
        )(Actor)
        self._asked, self._work, self._sealed = asked, work, 0
        self._waiting = deque(work.units)
        self.slots = [_Slot() for _ in range(min(crew.workers, len(work.units)))]

    def run(self) -> None:
        """Hand out units until all are sealed."""
        import ray

        while self._waiting or any(slot.unit for slot in self.slots):
            self._hand_out()
            running = {slot.task: slot for slot in self.slots if slot.unit}
            if not running:
                time.sleep(max(0.0, min(slot.due for slot in self.slots) - time.monotonic()))
                continue
            ended, _ = ray.wait(list(running), timeout=_POLL_S)
            for task in ended:
                self._end(running[task])
            self._tell()

    def _hand_out(self) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if slot.unit is None and slot.due <= now and self._waiting:
                slot.unit = self._waiting.popleft()
                slot.actor = slot.actor or self._make.remote(self._asked)
                slot.task = slot.actor.compute.remote(list(slot.unit.ids), slot.unit.batch_size)

    def _end(self, slot: _Slot) -> None:
        """Count a unit that is sealed, or put one back whose worker has died."""
        import ray
        from ray.exceptions import RayActorError

        unit, slot.unit, slot.done, slot.asking = slot.unit, None, 0, None
        assert unit is not None
        try:
            refused = ray.get(slot.task)
        except RayActorError:
            ray.kill(slot.actor)  # it may only be out of reach
            self._waiting.appendleft(unit)
            slot.actor, pause = None, pause_s(slot.deaths)
            slot.deaths, slot.due = slot.deaths + 1, time.monotonic() + pause
            log.warning("a worker has died (part of %s); another is started in %g s", unit.ids[0], pause)
            return
        if refused is not None:
            raise InvalidInputError(refused[0], hint=refused[1])
        slot.deaths, self._sealed = 0, self._sealed + len(unit.ids)

    def _tell(self) -> None:
        """Tell how far all are; a worker that loads its model answers later."""
        import ray
        from ray.exceptions import RayError

        for slot in self.slots:
            if slot.unit is None:
                continue
            if slot.asking is None:
                slot.asking = slot.actor.done.remote()
            elif ray.wait([slot.asking], timeout=0)[0]:
                try:
                    slot.done = max(slot.done, ray.get(slot.asking))
                except RayError:  # it has died: `_end` sees that
                    slot.done = 0
                slot.asking = None
        self._work.progress(self._sealed + sum(slot.done for slot in self.slots), self._work.n_samples)
