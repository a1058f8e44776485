"""What a pipeline has done: one record a step, and the reasons to do it again."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relope.pipeline.lineage import inputs_of, output_of, stamp, store_parts
from relope.provenance import write_json
from relope.spec import Spec
from relope.version import __version__

NAME = "steps.json"


@dataclass(frozen=True)
class Decision:
    """Whether a step must run, and why or why not, in a few words."""

    run: bool
    why: str


@dataclass
class Ledger:
    """The records of a pipeline's folder; saved after every step, so that an interruption costs one step."""

    path: Path
    records: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> "Ledger":
        """Read the records of a folder; a damaged file counts as none."""
        return cls(folder / NAME, _read(folder / NAME))

    def decide(self, step: str, spec: Spec) -> Decision:
        """Compare a step with its record: specification, inputs, version and output."""
        record = self.records.get(_key(step, spec))
        if record is None:
            return Decision(True, "not done yet")
        if (then := record.get("version")) != __version__:
            return Decision(True, f"done by relope {then}, this is {__version__}")
        if changed := _changed_fields(record.get("spec") or {}, spec):
            return Decision(True, changed)
        now = _stamps(step, spec)
        moved = [path for path, value in now.items() if value != (record.get("inputs") or {}).get(path)]
        if moved:
            return Decision(True, f"{moved[0]} has changed")
        return _compare_output(output_of(step, spec), step, record.get("output"))

    def note(self, step: str, spec: Spec) -> None:
        """Record that a step is done, beside what another run has recorded meanwhile."""
        done = {
            "step": step,
            "spec": spec.model_dump(mode="json"),
            "inputs": _stamps(step, spec),
            "output": _made(output_of(step, spec), step),
            "version": __version__,
        }
        self.records = {**self.records, **_read(self.path), _key(step, spec): done}
        write_json(self.path, self.records)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(step: str, spec: Spec) -> str:
    """Return what a record stands under: a store may be made by several extractions, one a choice of samples."""
    more = spec.model_dump(mode="json")
    extra = f" {','.join(more['split'])}" if step == "extract" else ""
    return f"{step} {output_of(step, spec)}{extra}"


def _stamps(step: str, spec: Spec) -> dict[str, str | None]:
    output = output_of(step, spec)
    inside = {output, *output.parents}  # a step must not wait for its own output
    return {str(path): stamp(path) for path in inputs_of(step, spec) if path.exists() and path not in inside}


def _made(output: Path, step: str) -> Any:
    """Return what tells whether an output is still there: of a store its parts, since a store grows."""
    return store_parts(output) if step == "extract" else stamp(output)


def _compare_output(output: Path, step: str, then: Any) -> Decision:
    now = _made(output, step)
    if now is None:
        return Decision(True, f"{output} is gone")
    if step == "extract" and isinstance(then, list):
        lost = len(set(then) - set(now))
        return Decision(True, f"{output} has lost {lost} parts") if lost else Decision(False, "up to date")
    return Decision(False, "up to date") if now == then else Decision(True, f"{output} has changed")


def _changed_fields(then: dict[str, Any], spec: Spec) -> str:
    now = spec.model_dump(mode="json")
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            return f"{key} changed: {_short(then.get(key))} → {_short(now.get(key))}"
    return ""


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
