"""An extraction opened again in another process, which computes units of its plan into the store that is there.

Engines of several processes name this file (``relope.extract.engine.WORKER``) and hand it JSON values; questions,
images and states are never sent: every process reads the data set for itself and seals its parts where the store is.
Run as a program it takes them on stdin, first what is asked, then a unit a line, and answers on stdout.
"""

import json
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from relope.cluster.worker import Job, enter, not_seen
from relope.errors import InvalidInputError, RelopeError
from relope.spec import ExtractSpec, build
from relope.types import silent

if TYPE_CHECKING:
    from relope.extract.plan import Unit


def asked_again(spec: ExtractSpec, out: Path) -> dict[str, Any]:
    """Return what another process needs to compute the same: JSON values."""
    ours = {"engine", "shard", "grader", "reuse", "out", "strict"}
    plain = spec.model_dump(mode="json", exclude_defaults=True)
    settings = {name: value for name, value in plain.items() if name in ExtractSpec.model_fields and name not in ours}
    return {"folder": os.getcwd(), "spec": {**settings, "out": str(out.resolve())}}


class Worker:
    """The model and the data of an extraction, in this process."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Open everything.

        Args:
            asked: from `asked_again`; an engine sets ``device`` and ``dtype`` of its ``spec``.

        Raises:
            NotFoundError: the folder or the store is not to be seen from here.
            StoreError: the model or the data here are others than those that the store was made with.
            RelopeError: the model cannot be loaded.
        """
        from relope.extract.engine import open_engine
        from relope.extract.growth import continued
        from relope.extract.recipe import make_manifest, save_block
        from relope.steps.extraction import extraction_of, samples_of
        from relope.store import create_or_open

        spec = _spec(asked)
        self.out = Path(str(spec.out))
        extraction = continued(extraction_of(spec), self.out)
        engine = open_engine("local", extraction, {"devices": ()})
        backbone = engine.open()
        manifest = make_manifest(backbone, extraction, engine)
        self.writer = create_or_open(self.out, manifest, codec=spec.codec)
        save_block(backbone, self.out, manifest.layers)
        shown = extraction.view.perturbed(extraction.view.worded(samples_of(extraction, silent)))
        self.samples = {sample.id: sample for sample in shown}
        self.batches = extraction.batches(backbone, halved=self._halved)
        self.thumbnails = extraction.thumbnails

    def work(self, jobs: Iterator[Job], ended: Callable[[int, Any], None], tell: Callable[[int], None]) -> None:
        """Compute units and seal their parts, but for those that are there: a worker that died may have sealed them.

        Args:
            jobs: number, and ids and batch size of each; one is asked for while that before is computed.
            ended: told the number of each whose part is sealed.
            tell: told how many samples are computed whose parts are not sealed.

        Raises:
            InvalidInputError: the data set has not all of the samples here.
        """
        from relope.extract.loop import run_units

        numbers: dict[Unit, int] = {}
        computed, sealed, telling = 0, 0, threading.Lock()

        def answered(n: int) -> None:
            nonlocal computed
            with telling:
                computed += n
                tell(computed - sealed)

        def end(unit: "Unit") -> None:
            nonlocal sealed
            with telling:
                sealed += len(unit.ids)
                ended(numbers[unit], None)
                tell(computed - sealed)

        run_units(
            self.batches,
            self.writer,
            self._missing(jobs, numbers, ended),
            self.samples,
            thumbnails=self.thumbnails,
            answered=answered,
            ended=end,
        )

    def _missing(
        self, jobs: Iterator[Job], numbers: "dict[Unit, int]", ended: Callable[[int, Any], None]
    ) -> "Iterator[Unit]":
        from relope.extract.plan import Unit

        for number, (ids, batch_size) in jobs:
            if self.writer.is_sealed(ids):
                ended(number, None)
                continue
            if lacking := [name for name in ids if name not in self.samples]:
                raise InvalidInputError(
                    f"the data set on {socket.gethostname()} has no sample {lacking[0]!r}, nor {len(lacking) - 1} "
                    "others"
                )
            unit = Unit(tuple(ids), batch_size)
            numbers[unit] = number
            yield unit

    def _halved(self, ids: Sequence[str]) -> None:
        from relope.extract.plan import note_halving
        from relope.store import plan_path

        note_halving(plan_path(self.out), ids)


def _spec(asked: Mapping[str, Any]) -> ExtractSpec:
    settings = asked["spec"]
    enter(asked["folder"])
    if not (Path(settings["out"]) / "zarr.json").is_file():
        raise not_seen(settings["out"])
    spec = build("extract", dict(settings))
    assert isinstance(spec, ExtractSpec)
    return spec


def main() -> None:
    """Compute units that come on stdin until there are no more."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # whatever a library prints is no answer
        try:
            _answer(_Lines(sys.stdin.fileno()), answers)
        except RelopeError as error:
            _say(answers, {"error": str(error), "hint": error.hint})
        except KeyboardInterrupt:
            sys.exit(130)


def _answer(lines: "_Lines", answers: IO[str]) -> None:
    worker, sizes = Worker(lines.take()), dict[int, int]()

    def there(line: Any) -> Iterator[Job]:
        while line is not None:
            sizes[number := len(sizes)] = len(line[0])
            yield number, line
            line = lines.take(wait=False)

    def tell(done: int) -> None:
        _say(answers, {"done": done})

    while (line := lines.take()) is not None:
        worker.work(there(line), lambda number, _: _say(answers, {"sealed": sizes[number]}), tell)


class _Lines:
    """Lines of JSON that come through a pipe; whether the next one is there can be asked without waiting for it."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._rest = pipe, b""

    def take(self, *, wait: bool = True) -> Any:
        """Return the next line's value; None at the end, and without waiting when none is there yet."""
        while b"\n" not in self._rest:
            if not wait and not select.select([self._pipe], [], [], 0)[0]:
                return None
            more = os.read(self._pipe, 1 << 16)
            if not more:
                return None
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


def _say(answers: IO[str], value: Mapping[str, Any]) -> None:
    """Tell who asked; when that process is gone, the part is finished all the same."""
    try:
        answers.write(json.dumps(value) + "\n")
        answers.flush()
    except BrokenPipeError:
        return


if __name__ == "__main__":
    main()
