"""A sweep opened again on a worker of a Ray cluster, which fits some of its runs; rows of the table are all it sends.

``relope.steps.sweep.WORKER`` names this file. Each worker reads store and grades for itself.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from relope.cluster.worker import Job, enter
from relope.errors import StoreError
from relope.spec import SweepSpec, build
from relope.steps.sweep import bench_of


class Worker:
    """The samples of a sweep, in this process."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Open the store.

        Args:
            asked: ``folder``, in which the command was typed, and the fields of its ``spec``.

        Raises:
            NotFoundError: the folder or the store is not to be seen from here.
            RelopeError: the store cannot be learned from here.
        """
        enter(asked["folder"])
        spec = build("sweep", dict(asked["spec"]))
        assert isinstance(spec, SweepSpec)
        bench = bench_of(spec)
        self._fits = bench.fits(spec.method, spec.device)
        self._keys = [run.key(spec.method, bench.data) for run in bench.runs]
        self._store = spec.store

    def work(self, jobs: Iterator[Job], ended: Callable[[int, Any], None], tell: Callable[[Any], None]) -> None:
        """Fit runs, each told by its number and the digest of everything that decides it.

        Raises:
            StoreError: samples, grades or versions here are others than where the sweep was started.
        """
        for number, (run, key) in jobs:
            if self._keys[run] != key:
                raise StoreError(
                    f"samples, grades or versions on {socket.gethostname()} are not those that the sweep of "
                    f"{self._store} was started with"
                )
            for _, row in self._fits([run]):
                ended(number, row)
