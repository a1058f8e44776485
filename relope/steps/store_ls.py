"""The step ``store ls``: what is at a URI."""

from pathlib import Path
from typing import Any

from relope.spec import StoreLsSpec
from relope.steps.step import Step
from relope.store import human_bytes
from relope.store.share.listing import listing
from relope.types import Outcome, TextTable, Watch
from relope.words import counted


def output(spec: StoreLsSpec) -> Path:
    """Return what is looked at: nothing is written."""
    return Path(spec.uri)


def run(spec: StoreLsSpec, watch: Watch) -> Outcome:
    """Show the parts of a store, or the stores of a folder."""
    facts = listing(spec.uri)
    if "stores" in facts:
        rows = [_row(store) for store in facts["stores"]]
        columns = ("store", "model", "data set", "layers", "samples", "size", "recipe")
        return Outcome(Path(spec.uri), False, "", facts, (TextTable(facts["uri"], columns, rows),), payload=facts)
    parts = [(part["part"], str(part["n_samples"]), human_bytes(part["n_bytes"])) for part in facts["parts"]]
    title = f"{facts['uri']}: {facts['model']} on {facts['dataset']}, layers {facts['layers']}"
    table = TextTable(f"{title}, {counted(facts['n_samples'], 'sample')}", ("part", "samples", "size"), parts)
    unfinished = len(facts["unfinished"])
    text = f"{counted(unfinished, 'part')} not finished: a push is running, or was given up" if unfinished else ""
    return Outcome(Path(spec.uri), False, text, facts, (table,), payload=facts)


def _row(store: dict[str, Any]) -> tuple[str, ...]:
    name = store["uri"].rpartition("/")[2]
    if "error" in store:
        return (name, f"cannot be read: {store['error']}", "", "", "", "", "")
    layers, size = ",".join(map(str, store["layers"])), human_bytes(store["n_bytes"])
    return (name, store["model"], store["dataset"], layers, str(store["n_samples"]), size, store["recipe_id"][:12])


STEP = Step(run, output, version=1)
