"""Jobs over the actors of a Ray cluster: who gets what next, and who is started anew."""

import logging
import re
import time
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from relope.cluster.crew import ClusterError, Crew
from relope.cluster.worker import Actor
from relope.errors import reason_of

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 60.0
"""Longest pause before a worker is started anew that dies each time; the first is of one second, the next of two."""

_POLL_S = 0.5
_DEATH_S = 10.0


def pause_s(deaths: int) -> float:
    """Return the seconds before a worker is started anew that has died so often since it last ended a job."""
    return min(LONGEST_PAUSE_S, 2.0 ** min(deaths, 16))


@dataclass(frozen=True)
class _Job:
    number: int
    key: Hashable
    given: Any
    title: str


@dataclass
class _Slot:
    """A place for a worker."""

    actor: Any = None
    tasks: dict[Any, _Job] = field(default_factory=dict)
    asking: Any = None
    told: Any = None
    deaths: int = 0
    due: float = 0.0

    def end_actor(self) -> None:
        """End its worker, whatever it does."""
        import ray

        if self.actor is not None:
            ray.kill(self.actor)
        self.actor = self.asking = self.told = None


class Pool:
    """Workers that do jobs; one that dies is started anew, after longer and longer pauses, and its jobs with it."""

    def __init__(self, crew: Crew, worker: str, asked: Mapping[str, Any], *, ahead: int = 1) -> None:
        """Start nobody yet.

        Args:
            crew: how many, and what each reserves.
            worker: ``module:Class`` that jobs are done by, a `relope.cluster.worker.Worker`.
            asked: what it is made from: JSON values.
            ahead: jobs that one has at a time, where there are enough for all; a worker that ends one goes on with
                the next at once.
        """
        import ray

        self._make = ray.remote(
            num_cpus=crew.cpus, num_gpus=crew.gpus, max_restarts=0, max_task_retries=0, max_concurrency=ahead + 1
        )(Actor)
        self._made_from = (worker, dict(asked), bool(crew.gpus))
        self._ahead, self._count = ahead, 0
        self._waiting: deque[_Job] = deque()
        self._slots = [_Slot() for _ in range(crew.workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """End every worker, whatever it does, and wait until it is dead."""
        import ray

        if not ray.is_initialized():
            return
        left = [task for slot in self._slots for task in slot.tasks]
        for slot in self._slots:
            slot.end_actor()
        if left:
            ray.wait(left, num_returns=len(left), timeout=_DEATH_S)

    def __len__(self) -> int:
        """Jobs that have not ended."""
        return len(self._waiting) + sum(len(slot.tasks) for slot in self._slots)

    def submit(self, key: Hashable, given: Any, title: str) -> None:
        """Have a job done.

        Args:
            key: that its result comes back under.
            given: what the worker is handed: JSON values, or a specification.
            title: what it is called when its worker dies.
        """
        self._waiting.append(_Job(self._count, key, given, title))
        self._count += 1
        self._hand_out()

    def ended(self) -> list[tuple[Any, Any]]:
        """Return key and result, or the error that refuses it, of jobs that end within half a second.

        Raises:
            ClusterError: the cluster is gone.
        """
        import ray
        from ray.exceptions import RaySystemError, RayTaskError

        try:
            self._hand_out()
            running = {task: slot for slot in self._slots for task in slot.tasks}
            if not running:
                self._rest()
                return []
            tasks, _ = ray.wait(list(running), timeout=_POLL_S)
            ended = [result for task in tasks for result in self._end(running[task], task)]
            self._hand_out()
        except RayTaskError:  # a worker's own, which may be a ConnectionError as well
            raise
        except (RaySystemError, ConnectionError) as error:
            raise ClusterError(
                f"the Ray cluster is gone: {reason_of(error)}; what was finished is kept", hint="run the command again"
            ) from error
        return ended

    def told(self) -> list[tuple[Any, Any]]:
        """Return key and what was told last of the job that each worker is at; one that loads answers later."""
        import ray
        from ray.exceptions import RayError

        for slot in self._slots:
            if not slot.tasks:
                continue
            if slot.asking is None:
                slot.asking = slot.actor.told.remote()
            elif ray.wait([slot.asking], timeout=0)[0]:
                try:
                    slot.told = ray.get(slot.asking)
                except RayError:  # it has died: `_end` sees that
                    slot.told = None
                slot.asking = None
        busy = [slot for slot in self._slots if slot.tasks and slot.told is not None]
        return [(next(iter(slot.tasks.values())).key, slot.told) for slot in busy]

    def release(self) -> None:
        """End the workers that have nothing to do, and give what they reserve to others."""
        for slot in self._slots:
            if not slot.tasks:
                slot.end_actor()

    def _hand_out(self) -> None:
        """Give every worker a job, and further ones only while each could still have one."""
        now = time.monotonic()
        for depth in range(self._ahead):
            for slot in self._slots:
                enough = len(self._waiting) >= len(self._slots) if depth else bool(self._waiting)
                if enough and len(slot.tasks) == depth and slot.due <= now:
                    slot.actor = slot.actor or self._make.remote(*self._made_from)
                    job = self._waiting.popleft()
                    slot.tasks[slot.actor.do.remote(job.number, job.given)] = job

    def _rest(self) -> None:
        """Wait for the first worker that may be started anew."""
        due = min((slot.due for slot in self._slots), default=0.0) if self._waiting else time.monotonic() + _POLL_S
        time.sleep(min(_POLL_S, max(0.0, due - time.monotonic())))

    def _end(self, slot: _Slot, task: Any) -> list[tuple[Any, Any]]:
        """Return the result of a job, or put the jobs of a worker back that has died."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

        slot.asking = slot.told = None
        job = slot.tasks.pop(task)
        try:
            result = ray.get(task)
        except (RayActorError, WorkerCrashedError, OutOfMemoryError) as error:
            jobs, pause = sorted([job, *slot.tasks.values()], key=lambda job: job.number), pause_s(slot.deaths)
            slot.end_actor()  # it may only be out of reach
            slot.tasks.clear()
            self._waiting.extendleft(reversed(jobs))
            slot.deaths, slot.due = slot.deaths + 1, time.monotonic() + pause
            often = f", {slot.deaths} times in a row" if slot.deaths > 1 else ""
            title, why = jobs[0].title, _death(error)
            log.warning("a worker has died (%s%s): %s; another is started in %g s", title, often, why, pause)
            return []
        slot.deaths = 0
        return [(job.key, result)]


def _death(error: Exception) -> str:
    """Return in a line why a worker has died, as far as Ray knows."""
    detail = re.search(r"Worker exit detail: (.*?)(?: Some common causes|\n|$)", str(error))
    return (detail[1] if detail else reason_of(error)).strip().rstrip(".")
