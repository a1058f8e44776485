"""An extraction opened again in another process, which computes units of its plan into the store that is there.

Engines of several processes name this file (``relope.extract.engine.WORKER``) and hand it JSON values; questions,
images and states are never sent: every process reads the data set for itself and seals its parts where the store is.
Run as a program it takes them on stdin, first what is asked, then a unit a line, and answers on stdout.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.spec import ExtractSpec, build
from relope.types import Progress, silent


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
        self.engine, self.samples, self.device = engine, {sample.id: sample for sample in shown}, backbone.device

    def compute(self, ids: list[str], batch_size: int, progress: Progress) -> None:
        """Compute a unit and seal its part, unless it is there.

        Raises:
            InvalidInputError: the data set has not all of the samples here.
        """
        from relope.extract.engine import Work
        from relope.extract.plan import Unit, note_halving
        from relope.store import plan_path

        if lacking := [name for name in ids if name not in self.samples]:
            raise InvalidInputError(
                f"the data set on {socket.gethostname()} has no sample {lacking[0]!r}, nor {len(lacking) - 1} others"
            )
        if self.writer.part_id(ids) in self.writer.sealed():
            return
        plan_file = plan_path(self.out)
        unit = Unit(tuple(ids), batch_size)
        self.engine.compute(
            Work(self.writer, [unit], self.samples, lambda names: note_halving(plan_file, names), progress)
        )


def _spec(asked: Mapping[str, Any]) -> ExtractSpec:
    folder, settings = Path(asked["folder"]), asked["spec"]
    host, store = socket.gethostname(), Path(settings["out"])
    if not folder.is_dir() or not (store / "zarr.json").is_file():
        lacking = store if folder.is_dir() else folder
        raise NotFoundError(
            f"{lacking} is not to be seen on {host}, where a worker runs", hint="put store and data on a shared folder"
        )
    os.chdir(folder)  # paths of the specification are relative to where the command was typed
    spec = build("extract", dict(settings))
    assert isinstance(spec, ExtractSpec)
    return spec


def main() -> None:
    """Compute units that come on stdin until there are no more."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # whatever a library prints is no answer
        try:
            _answer(sys.stdin, answers)
        except RelopeError as error:
            _say(answers, {"error": str(error), "hint": error.hint})
        except KeyboardInterrupt:
            sys.exit(130)


def _answer(lines: IO[str], answers: IO[str]) -> None:
    worker = Worker(json.loads(next(lines)))
    for line in lines:
        unit = json.loads(line)
        worker.compute(unit["ids"], unit["batch_size"], lambda done, total: _say(answers, {"done": done}))
        _say(answers, {"sealed": len(unit["ids"])})


def _say(answers: IO[str], value: Mapping[str, Any]) -> None:
    """Tell who asked; when that process is gone, the part is finished all the same."""
    try:
        answers.write(json.dumps(value) + "\n")
        answers.flush()
    except BrokenPipeError:
        return


if __name__ == "__main__":
    main()
