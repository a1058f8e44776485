"""The model on the workers of a Ray cluster, by transformers: each seals its parts into the store's shared folder."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from relope.cluster.crew import Wanted, check_installed, joined
from relope.errors import InvalidInputError, RelopeError
from relope.extract.engine import AHEAD, WORKER, Computed, Engine, Settings, Work
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
    check_installed()
    if settings["gpus_per_worker"] == 0 and (extraction.model.spread or extraction.model.quantize):
        what = "a model that is spread over devices" if extraction.model.spread else "a quantized model"
        raise InvalidInputError(f"{what} needs cards, and a worker is to have none", hint="drop --gpus-per-worker 0")


def open_engine(extraction: Extraction, settings: Settings) -> Engine:
    """Return the engine; the cluster is asked when it is opened."""
    return _Ray(extraction, settings)


class _Ray:
    identity: Mapping[str, Any] = {}

    def __init__(self, extraction: Extraction, settings: Settings) -> None:
        self._extraction, self._left = extraction, ExitStack()
        self._wanted = Wanted(settings["address"], settings["workers"], settings["gpus_per_worker"])
        self.recorded: Mapping[str, Any] = {"device": "ray"}

    def open(self) -> "Backbone":
        self._crew = self._left.enter_context(joined(self._wanted))
        asked = self._extraction.model.dtype
        self._dtype = ("bfloat16" if self._crew.gpus else "float32") if asked == "auto" else asked
        return self._extraction.model.described(self._dtype)

    def compute(self, work: Work) -> Computed:
        from relope.cluster.pool import Pool

        spec = {name: value for name, value in work.asked["spec"].items() if name not in TAKES}
        device = "cuda" if self._crew.gpus else "cpu"
        asked = {**work.asked, "spec": {**spec, "dtype": self._dtype, "device": device}}
        with Pool(self._crew, f"{WORKER}:Worker", asked, ahead=AHEAD) as pool:
            _follow(pool, work)
        return Computed()

    def close(self) -> None:
        self._left.close()


def _follow(pool: Any, work: Work) -> None:
    """Hand out the units and tell how far they are, until all are sealed.

    Raises:
        RelopeError: a worker refuses one.
    """
    for unit in work.units:
        pool.submit(unit, [list(unit.ids), unit.batch_size], f"part of {unit.ids[0]}")
    sealed = shown = 0
    while len(pool):
        for unit, result in pool.ended():
            if isinstance(result, RelopeError):
                raise result
            sealed += len(unit.ids)
        # What a worker has computed again that died before counts when it is further than that was.
        shown = max(shown, min(work.n_samples, sealed + sum(n for _, n in pool.told())))
        work.progress(shown, work.n_samples)
