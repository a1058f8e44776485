"""The model on the workers of a Ray cluster, by transformers: each seals its parts into the store's shared folder."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.engine import Computed, Engine, Settings, Work
from relope.extract.extraction import Extraction

if TYPE_CHECKING:
    from relope.extract.model.backbone import Backbone

VERSION = 1
EXACT = True
TAKES = ("address", "workers", "gpus_per_worker")
REFUSES: Mapping[str, str] = {
    "device": "Ray gives each worker its cards",
    "shard": "its workers take the parts from one another as they come",
}


def check(extraction: Extraction, settings: Settings) -> None:
    """Refuse a model that is spread over the cards of a worker that has none.

    Raises:
        NotFoundError: the extra ``ray`` is not installed.
        InvalidInputError: the blocks are to be spread, or the weights quantized, without a card.
    """
    if find_spec("ray") is None:
        raise NotFoundError("the engine ray needs the package ray", hint="pip install 'relope[ray]'")
    if settings["gpus_per_worker"] == 0 and (extraction.model.spread or extraction.model.quantize):
        what = "a model that is spread over devices" if extraction.model.spread else "a quantized model"
        raise InvalidInputError(f"{what} needs cards, and a worker is to have none", hint="drop --gpus-per-worker 0")


def open_engine(extraction: Extraction, settings: Settings) -> Engine:
    """Return the engine; the cluster is asked when it is opened."""
    return _Ray(extraction, settings)


class _Ray:
    identity: Mapping[str, Any] = {}

    def __init__(self, extraction: Extraction, settings: Settings) -> None:
        self._extraction, self._settings = extraction, settings
        self.recorded: Mapping[str, Any] = {"device": "ray"}
        self._left_open = True

    def open(self) -> "Backbone":
        from relope.extract.cluster import crew_for, join

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray says is going to be its default
        self._left_open = join(self._settings["address"])
        self._crew = crew_for(self._settings["workers"], self._settings["gpus_per_worker"])
        asked = self._extraction.model.dtype
        self._dtype = ("bfloat16" if self._crew.gpus else "float32") if asked == "auto" else asked
        return self._extraction.model.described(self._dtype)

    def compute(self, work: Work) -> Computed:
        from relope.extract.cluster import compute_on_cluster

        spec = {name: value for name, value in work.asked["spec"].items() if name not in TAKES}
        device = "cuda" if self._crew.gpus else "cpu"
        compute_on_cluster(self._crew, {**work.asked, "spec": {**spec, "dtype": self._dtype, "device": device}}, work)
        return Computed()

    def close(self) -> None:
        if not self._left_open:
            import ray

            ray.shutdown()
