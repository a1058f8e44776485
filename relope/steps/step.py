"""What a step is: how it runs, where it puts what it makes, and what a pipeline must know of it."""

import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from relope import registry
from relope.fields import Names, Spec, marked
from relope.spec import SPECS
from relope.types import Outcome, ResultWarning, TextTable, Watch, silent

S = TypeVar("S", bound=Spec)


def _nothing(spec: Any) -> None:
    """Check nothing."""


def _no_paths(spec: Any) -> list[Path]:
    return []


def _no_tables(path: Path) -> list[TextTable]:
    return []


def _no_warnings(path: Path) -> Sequence[ResultWarning]:
    return ()


def _no_plugins(spec: Any) -> list[tuple[str, str]]:
    return []


@dataclass(frozen=True)
class Step(Generic[S]):
    """What the file of a step exports as ``STEP``.

    Attributes:
        run: does it.
        output: where it puts what it makes; computed here alone, for the run and for the plan.
        version: raised when the same specification gives something else than before.
        alone: it takes the whole machine, so nothing runs beside it.
        grows: its output is a store that several runs add to.
        check: refuses what cannot work, before anything has run.
        reads: what it reads beside the fields that say so.
        tables: the tables of what a run has left at an output.
        warnings: what must be said before those tables are read.
        plugins: (kind, name) of plug-ins that it uses beside the fields that name one.
    """

    run: Callable[[S, Watch], Outcome]
    output: Callable[[S], Path]
    version: int
    alone: bool = False
    grows: bool = False
    check: Callable[[S], None] = _nothing
    reads: Callable[[S], list[Path]] = _no_paths
    tables: Callable[[Path], list[TextTable]] = _no_tables
    warnings: Callable[[Path], Sequence[ResultWarning]] = _no_warnings
    plugins: Callable[[S], list[tuple[str, str]]] = _no_plugins


def step_of(spec: Spec) -> Step[Any]:
    """Return the step that a specification is of."""
    return open_step(spec.step)


def open_step(name: str) -> Step[Any]:
    """Return a step by its name; its file is loaded then, its heavy libraries when it runs."""
    return importlib.import_module(SPECS[name].module).STEP  # type: ignore[no-any-return]


def run(spec: Spec, watch: Watch = silent) -> Outcome:
    """Run the step of a specification."""
    try:
        return step_of(spec).run(spec, watch)
    finally:
        _free_cards()


def _free_cards() -> None:
    """Give back what torch keeps of the cards' memory for later: the next step may run in another process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def versions_of(spec: Spec) -> dict[str, str]:
    """Return what decides a result beside specification and inputs: the versions of the step and its plug-ins."""
    step = step_of(spec)
    named = [(mark.kind, getattr(spec, field)) for field, mark in marked(type(spec), Names).items()]
    versions = {spec.step: str(step.version)}
    for kind, name in [*named, *step.plugins(spec)]:
        if name in registry.names(kind):
            versions[f"{kind}/{name}"] = registry.version(kind, name)
    return versions
