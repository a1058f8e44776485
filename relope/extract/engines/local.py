"""The model in this process, by transformers: samples prepared, answered and written side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relope.extract.engine import Computed, Engine, Settings, Work
from relope.extract.extraction import Extraction

if TYPE_CHECKING:
    from relope.extract.model.backbone import Backbone

VERSION = 1
EXACT = True
TAKES: tuple[str, ...] = ()
REFUSES: Mapping[str, str] = {}


def check(extraction: Extraction, settings: Settings) -> None:
    """Refuse nothing: what this machine lacks is told when the model is opened."""


def open_engine(extraction: Extraction, settings: Settings) -> Engine:
    """Return the engine; the model is loaded when it is opened."""
    return _Local(extraction)


class _Local:
    identity: Mapping[str, Any] = {}
    recorded: Mapping[str, Any] = {}

    def __init__(self, extraction: Extraction) -> None:
        self._extraction = extraction

    def open(self) -> "Backbone":
        from relope.extract.selfcheck import check_padding

        self._backbone = self._extraction.model.open()
        if not self._backbone.card.embedded:
            check_padding(self._backbone, self._extraction.layers(self._backbone))
        return self._backbone

    def compute(self, work: Work) -> Computed:
        from relope.extract.loop import run_units

        batches = self._extraction.batches(self._backbone, halved=work.halved)
        waited = run_units(
            batches,
            work.writer,
            work.units,
            work.samples,
            thumbnails=self._extraction.thumbnails,
            progress=work.progress,
        )
        return Computed(waited)

    def close(self) -> None:
        """Leave the model to the garbage collector."""
