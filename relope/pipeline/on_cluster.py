"""Steps side by side on the workers of a Ray cluster, each of which runs one step at a time on one thread."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Self

from relope.cluster.crew import Wanted, joined
from relope.cluster.pool import Pool
from relope.cluster.worker import Job, enter
from relope.errors import RelopeError
from relope.fields import Spec
from relope.pipeline.processes import warm_up, watch_by
from relope.steps import run
from relope.types import Outcome, Progress


class OnCluster:
    """Workers of a cluster, which must see stores, routers and data under the same paths."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted, self._left = wanted, ExitStack()
        self.busy: set[int] = set()

    def __enter__(self) -> Self:
        """Ask the cluster for room, before anything has run."""
        with ExitStack() as entered:
            crew = entered.enter_context(joined(self._wanted))
            self._pool = entered.enter_context(Pool(crew, f"{__name__}:Worker", {"folder": os.getcwd()}))
            self._left = entered.pop_all()
        self.jobs = crew.workers
        return self

    def __exit__(self, *raised: Any) -> None:
        self._left.__exit__(*raised)

    def submit(self, number: int, title: str, spec: Spec) -> None:
        """Start a step in a worker."""
        self.busy.add(number)
        self._pool.submit(number, spec, title)

    def release(self) -> None:
        """End the workers that have nothing to do: a step that is to be alone may need what they reserve."""
        self._pool.release()

    def finished(self, progress: Mapping[int, Progress], drain: bool) -> Iterator[tuple[int, Outcome | RelopeError]]:
        """Yield steps that have ended and how: the first ones, or with ``drain`` all that run."""
        while self.busy:
            ended = self._pool.ended()
            for number, told in self._pool.told():
                progress[number](*told)
            for number, outcome in ended:
                self.busy.discard(number)
                yield number, outcome
            if ended and not drain:
                return


class Worker:
    """What a worker of the cluster runs steps by."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Go where the command was typed.

        Raises:
            NotFoundError: that folder is not to be seen from here.
        """
        enter(asked["folder"])
        warm_up()

    def work(self, jobs: Iterator[Job], ended: Callable[[int, Any], None], tell: Callable[[Any], None]) -> None:
        """Run the steps of some specifications; one that fails leaves the others be."""
        watch = watch_by(lambda done, total: tell((done, total)))
        for number, spec in jobs:
            try:
                outcome: Outcome | RelopeError = run(spec, watch)
            except RelopeError as error:
                outcome = error
            ended(number, outcome)
