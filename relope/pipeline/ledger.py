"""What a pipeline has done: one record a step, and the reasons to do it again."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relope.fields import Spec
from relope.pipeline.lineage import inputs_of, output_of, stamp, store_parts
from relope.provenance import write_json
from relope.steps import step_of, versions_of

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

    def decide(self, spec: Spec) -> Decision:
        """Compare a step with its record: specification, inputs, versions and output."""
        record = self.records.get(_key(spec))
        if record is None:
            return Decision(True, "not done yet")
        if changed := _changed_versions(record.get("versions"), versions_of(spec)):
            return Decision(True, changed)
        if changed := _changed_fields(record.get("spec") or {}, spec):
            return Decision(True, changed)
        moved = [path for path, value in _stamps(spec).items() if value != (record.get("inputs") or {}).get(path)]
        if moved:
            return Decision(True, f"{moved[0]} has changed")
        return _compare_output(spec, record.get("output"))

    def note(self, spec: Spec) -> None:
        """Record that a step is done, beside what another run has recorded meanwhile."""
        done = {
            "step": spec.step,
            "spec": spec.model_dump(mode="json"),
            "inputs": _stamps(spec),
            "output": _made(spec),
            "versions": versions_of(spec),
        }
        self.records = {**self.records, **_read(self.path), _key(spec): done}
        write_json(self.path, self.records)


def _read(path: Path) -> dict[str, Any]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return records if isinstance(records, dict) else {}


def _key(spec: Spec) -> str:
    """Return what a record stands under: a store may be made by several runs, one a choice of samples."""
    splits = ",".join(getattr(spec, "split", ())) if step_of(spec).grows else ""
    return f"{spec.step} {output_of(spec)} {splits}".rstrip()


def _stamps(spec: Spec) -> dict[str, str | None]:
    output = output_of(spec)
    inside = {output, *output.parents}  # a step must not wait for its own output
    return {str(path): stamp(path) for path in inputs_of(spec) if path.exists() and path not in inside}


def _made(spec: Spec) -> object:
    """Return what tells whether an output is still there: of a store that grows its parts."""
    output = output_of(spec)
    return store_parts(output) if step_of(spec).grows else stamp(output)


def _compare_output(spec: Spec, then: object) -> Decision:
    output, now = output_of(spec), _made(spec)
    if now is None:
        return Decision(True, f"{output} is gone")
    if isinstance(now, list) and isinstance(then, list):
        lost = len(set(then) - set(now))
        return Decision(True, f"{output} has lost {lost} parts") if lost else Decision(False, "up to date")
    return Decision(False, "up to date") if now == then else Decision(True, f"{output} has changed")


def _changed_versions(then: dict[str, str] | None, now: dict[str, str]) -> str:
    """Return what has another version than when the step was done; a record without versions is an older relope's."""
    if then is None:
        return "done by an older relope"
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            return f"version of {name} changed: {then.get(name, 'none')} → {now.get(name, 'none')}"
    return ""


def _changed_fields(then: dict[str, Any], spec: Spec) -> str:
    now = spec.model_dump(mode="json")
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            return f"{key} changed: {_short(then.get(key))} → {_short(now.get(key))}"
    return ""


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
