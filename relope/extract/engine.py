"""What computes the planned units of an extraction, and what the step asks of it.

Plan, order, resume, identity, publication and ``content_id`` are the step's; an engine gets units and leaves sealed
parts. One lives in ``relope/extract/engines``, one file each, which loads nothing heavy when it is imported and exports

- ``VERSION``: raised when what it computes changes.
- ``EXACT: bool``: on one machine and CPU its parts are those of ``local``, bit for bit.
- ``TAKES: tuple[str, ...]``: settings of a specification that are this engine's own, such as ``devices``.
- ``REFUSES: Mapping[str, str]``: settings that it cannot honour → why.
- ``check(extraction, settings)``: refuses what else cannot work, before torch loads or anything is written.
- ``open_engine(extraction, settings) -> Engine``.

``settings`` holds the values of ``TAKES``, given or not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from relope import registry
from relope.errors import RelopeError
from relope.types import Progress, Sample

if TYPE_CHECKING:  # a refusal must not wait for torch
    from relope.extract.extraction import Extraction
    from relope.extract.model.backbone import Backbone
    from relope.extract.plan import Unit
    from relope.store import StoreWriter

KIND = "extract_engines"
WORKER = "relope.steps.extract_worker"
"""The file that opens an extraction again in another process, from ``Work.asked``.

It stands above this room, so it is named and not imported.
"""

AHEAD = 3
"""Units that a worker in another process has at a time: one that is sealed, one that is computed, one whose prompts are
prepared. Without them its model would wait at the end of each."""

Settings = Mapping[str, Any]
"""Setting of an engine's own → its value."""


class EngineError(RelopeError, RuntimeError):
    """An engine that died; the parts that it had sealed are kept, and the same command goes on."""


@dataclass(frozen=True)
class Work:
    """What an engine is given.

    Attributes:
        writer: the store: each unit becomes the part ``writer.part(unit.ids)``, of rows in that order.
        units: what is missing, in the order in which parts are wanted; they may be sealed in any.
        samples: id → sample as the model shall see it, for every id in the units.
        halved: to be told the ids of a batch that did not fit into memory.
        progress: to be told the number of samples done and planned.
        asked: what a worker in another process opens the same extraction by: JSON values.
    """

    writer: "StoreWriter"
    units: "Sequence[Unit]"
    samples: Mapping[str, Sample]
    halved: Callable[[Sequence[str]], None]
    progress: Progress
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Samples in all units."""
        return sum(len(unit.ids) for unit in self.units)

    def counted(self) -> Callable[[int], None]:
        """Return what is told how many samples were answered, again and again, and tells ``progress`` of all."""
        done, total = 0, self.n_samples

        def answered(n: int) -> None:
            nonlocal done
            done += n
            self.progress(done, total)

        return answered


@dataclass(frozen=True)
class Computed:
    """What an engine says when every unit is sealed.

    Attributes:
        seconds_waiting: that its model waited for data; None where nobody can tell.
        seconds_beside: that sampled traces and p(True) took; None where nobody can tell.
    """

    seconds_waiting: float | None = None
    seconds_beside: float | None = None


class Engine(Protocol):
    """Computes the units of one run.

    Attributes:
        identity: what it adds to the identity of a store; empty where the numbers are those of ``local``. Read after
            ``open``.
        recorded: what is worth knowing beside that, such as versions; it takes the place of the backbone's own.
    """

    identity: Mapping[str, Any]
    recorded: Mapping[str, Any]

    def open(self) -> "Backbone":
        """Return the model as it is known here: configuration, processor, chat template, identity, traits.

        It has weights only where it runs in this process; ``ModelChoice.described`` gives one without. Its
        ``traits.context`` is the longest prompt that the engine takes: longer ones are skipped and named beforehand.

        Raises:
            RelopeError: the model cannot be had, or its states would be captured wrongly.
            EngineError: the engine does not start.
        """

    def compute(self, work: Work) -> Computed:
        """Seal every unit as a part; called once, with one unit at least.

        Raises:
            EngineError: it died; what was sealed before is kept.
        """

    def close(self) -> None:
        """End whatever it has started; called once, whatever has happened before."""


def engine_module(name: str) -> ModuleType:
    """Return the file of an engine.

    Raises:
        NotFoundError: there is no such engine.
    """
    return registry.load(KIND, name)


def open_engine(name: str, extraction: "Extraction", settings: Settings) -> Engine:
    """Return an engine for an extraction, not opened yet."""
    engine: Engine = engine_module(name).open_engine(extraction, settings)
    return engine
