"""The model on this machine, by transformers: in this process, or in one a device."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError
from relope.extract.engine import Computed, Engine, Settings, Work
from relope.extract.extraction import Extraction
from relope.extract.model.devices import check_device

if TYPE_CHECKING:
    from relope.extract.model.backbone import Backbone

VERSION = 1
EXACT = True
TAKES = ("devices",)
REFUSES: Mapping[str, str] = {}


def check(extraction: Extraction, settings: Settings) -> None:
    """Refuse devices of two kinds, whose numbers differ, and another place for the model beside them.

    Raises:
        InvalidInputError: there are such.
    """
    devices = settings["devices"]
    for device in devices:
        check_device(device)
    if len(kinds := {_kind(device) for device in devices}) > 1 or "auto" in kinds:
        raise InvalidInputError(
            f"devices {', '.join(devices)} must be named and of one kind", hint="e.g. --devices cuda:0,cuda:1"
        )
    model = extraction.model
    if devices and (model.device != "auto" or model.spread):
        other = "device_map" if model.spread else "device"
        raise InvalidInputError(
            f"{other} and devices both say where the model runs", hint=f"drop --{other.replace('_', '-')}"
        )


def open_engine(extraction: Extraction, settings: Settings) -> Engine:
    """Return the engine; the model is loaded when it is opened."""
    devices = settings.get("devices", ())
    return _Processes(extraction, devices) if devices else _Local(extraction)


def _kind(device: str) -> str:
    return device.partition(":")[0]


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
            answered=work.counted(),
        )
        return Computed(waited, batches.seconds_beside)

    def close(self) -> None:
        """Leave the model to the garbage collector."""


class _Processes:
    identity: Mapping[str, Any] = {}

    def __init__(self, extraction: Extraction, devices: tuple[str, ...]) -> None:
        self._extraction, self._devices = extraction, devices
        self.recorded: Mapping[str, Any] = {"device": ",".join(devices)}

    def open(self) -> "Backbone":
        from relope.extract.model.load import pick_device, pick_dtype

        first, *_ = [pick_device(device) for device in self._devices]  # one that is not here is told now
        self._dtype = str(pick_dtype(self._extraction.model.dtype, first)).removeprefix("torch.")
        return self._extraction.model.described(self._dtype)

    def compute(self, work: Work) -> Computed:
        from relope.extract.processes import compute_on

        spec = {name: value for name, value in work.asked["spec"].items() if name != "devices"}
        compute_on(self._devices, {**work.asked, "spec": {**spec, "dtype": self._dtype}}, work)
        return Computed()

    def close(self) -> None:
        """Leave nothing: the processes have ended with the last unit."""
