"""The step ``store gc``: what no reader needs, listed or removed."""

from pathlib import Path

from relope.spec import StoreGcSpec
from relope.steps.step import Step
from relope.store import human_bytes
from relope.store.share.gc import gc
from relope.types import Outcome, TextTable, Watch
from relope.words import counted


def output(spec: StoreGcSpec) -> Path:
    """Return the store that is tidied."""
    return Path(spec.store)


def run(spec: StoreGcSpec, watch: Watch) -> Outcome:
    """List or remove leftovers of dead processes, given-up pushes and replaced catalogs."""
    items = gc(spec.store, delete=spec.delete, hours=spec.hours)
    payload = {"store": spec.store, "deleted": spec.delete, "found": [vars(item) for item in items]}
    if not items:
        return Outcome(Path(spec.store), True, f"{spec.store}: nothing to remove", payload=payload)
    table = TextTable(
        spec.store, ("file", "size", "why"), [(item.name, human_bytes(item.n_bytes), item.why) for item in items]
    )
    amount = f"{counted(len(items), 'file')} ({human_bytes(sum(item.n_bytes for item in items))})"
    text = f"{amount} removed" if spec.delete else f"{amount} can go; nothing was removed, --delete does it"
    return Outcome(Path(spec.store), False, text, {}, (table,), payload=payload)


STEP = Step(run, output, version=1)
