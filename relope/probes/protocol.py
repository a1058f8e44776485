"""Routing methods: one file each, a ``Method`` class that predicts P(the small model is right).

Every method obeys ``Probe``, also those that train nothing; what only some can do has a protocol
of its own (`Explains`, `Exports`, `RunsBlock`, `Notes`, `KeepsHistory`), so that nobody guesses at
attributes. The name of the file is the name on the command line; beside the class a file has
``VERSION = 1``, an int, which is raised when the same samples and settings give other results.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from relope import registry
from relope.errors import InvalidInputError, NotFoundError, nearest
from relope.fields import complaint
from relope.probes.declared import declared_settings
from relope.probes.ensemble import FITS, ensemble_of
from relope.probes.examples import Examples
from relope.store import RowReader, no_states
from relope.types import Progress, no_progress

if TYPE_CHECKING:
    from relope.probes.resume import History

BlockUse = Literal["none", "replayed", "streamed"]
"""How a method runs block l of the backbone: not at all, from its weights beside the store, or in the
running backbone that samples are streamed through."""


class Params(BaseModel):
    """Base of a method's own settings, given as ``--set key=value``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Traits:
    """What holds for a method whatever its settings: all that others must know before they use it.

    Attributes:
        trains: it learns from labelled samples; False where it scores any store straight away.
        control: it is there to be beaten, not to be used.
        reads_answer: False when it scores before the small model answers, so that an escalated query
            costs no answer.
        of_answer: what it reads of the answer beside its text and log-probs: ``states`` (their final-layer mean) and
            ``entropies``; of one that stacks others, what it reads besides them.
        reads_grades: its scores depend on ``Examples.grades``.
        reads_large: its fit depends on ``Examples.large_correct``.
        needs: settings of an extraction that add what it reads beyond a plain one.
    """

    trains: bool = True
    control: bool = False
    reads_answer: bool = True
    of_answer: frozenset[str] = frozenset({"states", "entropies"})
    reads_grades: bool = False
    reads_large: bool = False
    needs: Mapping[str, int | bool] = field(default_factory=dict)

    @property
    def flags(self) -> str:
        """What is needed, as `relope extract` takes it: ``--samples 5``."""
        flags = {f"--{setting.replace('_', '-')}": value for setting, value in self.needs.items()}
        return " ".join(flag if value is True else f"{flag} {value}" for flag, value in flags.items())


class Probe(Protocol):
    """A routing method, scikit-learn style."""

    name: ClassVar[str]
    traits: ClassVar[Traits]
    Params: ClassVar[type[Params]]
    params: Any
    """The settings that it was made with, a ``Params``."""

    def __init__(self, params: Any) -> None: ...

    def layers(self, layer: int) -> tuple[int, ...]:
        """Return the layers that must be in the store to work at ``layer``."""

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        """Learn from labelled examples."""

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        """Return ``[N] float32``: P(correct)."""

    def save(self, folder: Path) -> None:
        """Write tensors and settings into a folder."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; scores are then equal to the bit."""


@runtime_checkable
class Explains(Protocol):
    """A method that weighs the tokens of the prompt."""

    def token_weights(self, examples: Examples) -> list[npt.NDArray[np.float32]]:
        """Return the weights ``[T]`` of every prompt token, one array a sample; they sum to 1."""


@runtime_checkable
class Exports(Protocol):
    """A method whose fit other tools can load."""

    def export(self, folder: Path) -> int:
        """Write a PEFT adapter folder; return its number of adapter tensors."""


@runtime_checkable
class RunsBlock(Protocol):
    """A method that may run block l of the backbone; its settings say how."""

    @property
    def block_use(self) -> BlockUse:
        """How block l is run."""


@runtime_checkable
class Notes(Protocol):
    """A method with something to tell the readers of its scores."""

    note: str


Known = Mapping[str, npt.NDArray[np.float32]]
"""Member of a stack → what it says of some examples, ``[N]``."""


@runtime_checkable
class Stacks(Protocol):
    """A method that stacks others."""

    members_: "Mapping[str, Probe]"

    def predict_knowing(self, known: Known, examples: Examples) -> npt.NDArray[np.float32]:
        """Return ``[N] float32``: P(correct), given what some of the members say of the examples."""


@runtime_checkable
class KeepsHistory(Protocol):
    """A method that stops early on an inner validation split, once it is fitted."""

    history_: "History"


def block_use(probe: Probe) -> BlockUse:
    """Return how a method runs block l of the backbone."""
    return probe.block_use if isinstance(probe, RunsBlock) else "none"


def reads_of_answer(probe: Probe) -> frozenset[str]:
    """Return what a method and those that it stacks read of an answer beside its text and log-probs."""
    parts = [probe, *(probe.members_.values() if isinstance(probe, Stacks) else ())]
    return frozenset[str]().union(*(part.traits.of_answer for part in parts if part.traits.reads_answer))


def note_of(probe: Probe) -> str:
    """Return what a reader of a method's scores should know, or ``""``."""
    return probe.note if isinstance(probe, Notes) else ""


def pick_layer(store: RowReader, probe: Probe, asked: int | None) -> int:
    """Return the block l that a method reads: what was asked, else the store's deepest.

    Raises:
        NotFoundError: the store lacks a layer that the method needs.
    """
    if store.manifest.answers_only:
        if probe.layers(1) or block_use(probe) != "none":
            raise no_states(store.label, f"hidden states, which {probe.name} reads")
        return 0
    layer = asked or max(store.layers)
    needed = probe.layers(layer)
    for number in needed:
        if number not in store.layers:
            raise NotFoundError(
                f"layer {number} is not in {store.label} (has {', '.join(map(str, store.layers))})",
                hint=f"extract again with --layers {','.join(map(str, needed))} into a new --out",
            )
    return layer


def check_layer(store: RowReader, layer: int) -> None:
    """Refuse a layer that a store lacks, before a method says what else it needs.

    Raises:
        NotFoundError: it is not there.
    """
    if store.manifest.answers_only:
        raise no_states(store.label, f"layer {layer}")
    if layer not in store.layers:
        raise NotFoundError(
            f"layer {layer} is not in {store.label} (has {', '.join(map(str, store.layers))})",
            hint=f"extract again with --layers {layer} into a new --out",
        )


def check_method(name: str) -> None:
    """Refuse a name that is no method's, without loading one.

    Raises:
        NotFoundError: there is none of that name.
    """
    if name not in registry.names("methods"):
        method_class(name)


def method_class(name: str) -> type[Probe]:
    """Return the class of a method by CLI name.

    Raises:
        NotFoundError: there is none of that name.
    """
    return registry.load("methods", name).Method  # type: ignore[no-any-return]


def make(name: str, settings: dict[str, Any]) -> Probe:
    """Return an unfitted method with its settings checked.

    Raises:
        NotFoundError: unknown method.
        InvalidInputError: unknown or ill-typed setting; the message lists those there are.
    """
    check_settings(name, settings)
    method = method_class(name)
    try:
        params = method.Params(**settings)
        return ensemble_of(method)(params) if getattr(params, "members", 1) > 1 else method(params)
    except ValidationError as error:
        first, fields = error.errors()[0], method.Params.model_fields
        key = str(first["loc"][0])
        defaults = {field: info.default for field, info in fields.items()}
        if key not in fields:
            raise _no_setting(name, key, defaults) from error
        wrong = f"setting {key}={settings.get(key)!r}: {complaint(first)}"
        raise InvalidInputError(f"{name}: {wrong} (settings and defaults: {_listed(defaults)})") from error


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse names that are no settings of a method, without loading it where its file says them.

    Raises:
        InvalidInputError: one of them is none.
    """
    declared = declared_settings(name)
    if declared is None:
        return
    others = {key: value for key, value in settings.items() if key not in declared}
    if declared.keys() >= {"methods", "settings"}:  # what is not its own is a setting of something that it stacks
        stacked = settings.get("methods", declared["methods"])
        known = [declared_settings(name) for name in (stacked.split(",") if isinstance(stacked, str) else stacked)]
        if None in known:
            return
        others = {key: value for key, value in others.items() if not any(key in (of or {}) for of in known)}
        declared = {key: value for of in (declared, *known) for key, value in (of or {}).items()}
    if others:
        raise _no_setting(name, next(iter(others)), declared)


def _no_setting(name: str, key: str, defaults: Mapping[str, Any]) -> InvalidInputError:
    known = f"(settings and defaults: {_listed(defaults)})"
    return InvalidInputError(f"{name}: no setting {key!r}{nearest(key, defaults)} {known}")


def _listed(defaults: Mapping[str, Any]) -> str:
    return ", ".join(f"{field}={default}" for field, default in defaults.items()) or "none"


def load(name: str, folder: Path) -> Probe:
    """Return a fitted method, or an ensemble of its fits, that was saved into a folder.

    Raises:
        NotFoundError: unknown method.
        StoreError: the folder holds none, or a damaged one.
    """
    return fitted_class(name, folder).load(folder)


def fitted_class(name: str, folder: Path) -> type[Probe]:
    """Return the class of what was saved into a folder: of a method, or of the ensembles of its fits.

    Raises:
        NotFoundError: unknown method.
    """
    method = method_class(name)
    return ensemble_of(method) if (folder / FITS).is_dir() else method


def fresh(probe: Probe) -> Probe:
    """Return an unfitted method with the settings of another."""
    return type(probe)(probe.params)
