"""Stacks: several methods fitted out of fold, a regression on what they say, and its calibration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from relope import registry
from relope.errors import InvalidInputError
from relope.probes.at_layer import load_member, make_member, method_of, named
from relope.probes.confidence import check_answers
from relope.probes.examples import Examples, check_trainable, untold
from relope.probes.files import check_shapes, load_state, save_state
from relope.probes.folds import Folds, group_folds
from relope.probes.logistic import Floats, Logistic, Scale, logit, sigmoid
from relope.probes.protocol import BlockUse, Known, Params, Probe, Traits, block_use, make, method_class
from relope.probes.side_by_side import all_out_of_fold
from relope.types import Progress, no_progress

ALL = "all"
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)


class StackSettings(Params):
    """Settings of a stack; every key that is not listed goes to the stacked methods that have it.

    With ``layers`` each stacked method that reads states, and runs no block, is stacked once for each of them.
    """

    methods: tuple[str, ...] = Field((), min_length=1)
    folds: int = Field(5, ge=2)
    c: float | None = Field(None, gt=0)
    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field(())
    settings: dict[str, Any] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _pass_on(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        own = {key: value for key, value in given.items() if key in cls.model_fields}
        rest = {key: value for key, value in given.items() if key not in cls.model_fields}
        return {**own, "settings": {**own.get("settings", {}), **rest}}

    @field_validator("methods", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        words = given.split(",") if isinstance(given, str) else given
        return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))

    @field_validator("layers", mode="before")
    @classmethod
    def _numbered(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = [word for word in given.split(",") if word.strip()]
        return tuple(dict.fromkeys([given] if isinstance(given, int) else given))


@dataclass(frozen=True)
class OutOfFold:
    """What a stack and its members say of the samples that it learned from, each by fits that did not see its group.

    Attributes:
        correct: ``[N] bool``.
        groups: ``[N]``.
        alone: member → its logits ``[N]``, those left out as well.
        stack: ``[N]`` logits of the stack.
        without: member of the stack → logits ``[N]`` of the stack without it; none of a stack of one.
    """

    correct: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.str_]
    alone: Mapping[str, Floats]
    stack: Floats
    without: Mapping[str, Floats]


class Stack:
    """P(correct) = σ(a · stack + b), stack = logistic regression on the logits of several methods.

    What the regression learns from are out-of-fold logits: each training sample is scored by methods fitted on the
    other folds, and a fold never cuts an image group, so the stack never sees a score that a method gave to its own
    training data. The strength of its penalty is the one with the least log-loss over the same folds. A member that
    lowers that loss by no more than a standard error (of its sums over image groups) is left out, one at a time. The
    methods that predict are fitted on all samples. a and b (Platt) come from out-of-fold logits of the stack itself.

    Source: not in the paper; stacking as in Wolpert 1992. Choice: all of it; a < 0 is taken as 0, which scores all
    alike.
    """

    name: ClassVar[str]
    traits: ClassVar[Traits] = Traits()
    Params: ClassVar[type[StackSettings]] = StackSettings

    def __init__(self, params: Any) -> None:
        """Check the settings of the stacked methods too.

        Raises:
            NotFoundError: unknown method.
            InvalidInputError: a method that cannot be stacked here, or a setting that none of them has.
        """
        self.params = params
        self.members_ = self._unfitted()
        self.left_out_: list[str] = []

    def _unfitted(self) -> dict[str, Probe]:
        given = self.params.settings
        names = _all(self.traits) if self.params.methods == (ALL,) else self.params.methods
        for name in names:
            self._check(name)
        known = {name: method_class(name).Params.model_fields for name in names}
        for key in given:
            if not any(key in fields for fields in known.values()):
                make(names[0], {key: given[key]})  # which says that there is no such setting
        members = dict[str, Probe]()
        for name in names:
            settings = {key: value for key, value in given.items() if key in known[name]}
            members |= {each: make_member(each, settings) for each in self._at_layers(name, make(name, settings))}
        return members

    def _at_layers(self, name: str, probe: Probe) -> list[str]:
        """Return what a method is stacked as: once for each layer, if it reads layers and any are asked for."""
        if self.params.layers and probe.layers(1) and block_use(probe) == "none":
            return [named(name, layer) for layer in self.params.layers]
        return [name]

    def _check(self, name: str) -> None:
        method = method_class(name)
        if issubclass(method, Stack) or not method.traits.trains:
            raise InvalidInputError(f"{self.name}: {name} trains nothing that could be stacked")
        if method.traits.reads_answer and not self.traits.reads_answer:
            raise InvalidInputError(
                f"{self.name}: {name} reads the answer, {self.name} decides before there is one",
                hint="stack it with fusion",
            )

    @property
    def block_use(self) -> BlockUse:
        """How the stacked methods run block l: as the one that asks for most."""
        uses = {block_use(member) for member in self.members_.values()}
        return "streamed" if "streamed" in uses else "replayed" if "replayed" in uses else "none"

    @property
    def note(self) -> str:
        """What is stacked, and what was tried and left out."""
        left = f", not {' or '.join(self.left_out_)}, not shown to add to them" if self.left_out_ else ""
        return f"stacks {', '.join(self.members_)}{left}"

    def layers(self, layer: int) -> tuple[int, ...]:
        return tuple(sorted({number for member in self.members_.values() for number in member.layers(layer)}))

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Self:
        check_trainable(examples, self.name)
        if (deepest := max(self.params.layers, default=0)) > examples.layer:
            raise InvalidInputError(
                f"{self.name} decides at layer {examples.layer}, layers={deepest} lies behind it",
                hint=f"fit it with --layer {deepest}, or leave that layer out",
            )
        examples = replace(examples, epoch_ended=untold)  # of several fits at a time, perhaps in other processes
        if any(member.traits.reads_answer for member in self.members_.values()):
            check_answers(examples, self.name)
        folds = group_folds(examples.groups, self.params.folds, seed, self.name)
        said, self.members_ = all_out_of_fold(self._unfitted(), examples, folds, seed, progress)
        self._stack(examples, said, folds, seed)
        return self

    def _stack(self, examples: Examples, said: Mapping[str, Floats], folds: Folds, seed: int) -> None:
        """Choose members and penalty, and learn the regression and its calibration."""
        labels, strengths = examples.labels, STRENGTHS if self.params.c is None else (self.params.c,)
        choice = Choice(said, labels, examples.groups, folds, seed, strengths)
        names, c = choice.best()
        held = choice.held(names, c)
        without = {
            name: choice.held([other for other in names if other != name], c) for name in names if len(names) > 1
        }
        self.out_of_fold_ = OutOfFold(labels > 0, examples.groups, said, held, without)
        self.left_out_ = [name for name in said if name not in names]
        self.members_ = {name: self.members_[name] for name in names}
        columns = np.stack([said[name] for name in names], axis=1)
        self.scale_ = Scale.learn(columns)
        self.stack_ = Logistic.fit(self.scale_(columns), labels, c, seed)
        slope, level = Logistic.fit(held[:, None], labels, 1e6, seed).weights
        if slope < 0:
            slope, level = 0.0, float(np.log(labels.mean() / (1 - labels.mean())))
        self.platt_ = np.array([slope, level])

    def predict_proba(self, examples: Examples) -> npt.NDArray[np.float32]:
        return self.predict_knowing({}, examples)

    def predict_knowing(self, known: Known, examples: Examples) -> npt.NDArray[np.float32]:
        """Return ``[N] float32``: P(correct), given what some of the members say of the examples."""
        said = [
            logit(known[name] if name in known else member.predict_proba(examples))
            for name, member in self.members_.items()
        ]
        logits = self.stack_.logits(self.scale_(np.stack(said, axis=1)))
        return sigmoid(self.platt_[0] * logits + self.platt_[1])

    def save(self, folder: Path) -> None:
        for name, member in self.members_.items():
            member.save(folder / "members" / name)
        kept = {"method": self.name, "params": self.params.model_dump(), "members": list(self.members_)}
        kept["left_out"] = self.left_out_
        save_state(folder, kept, {"weights": self.stack_.weights, "platt": self.platt_, **self.scale_.tensors()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, tensors = load_state(folder)
        return cls.restore(folder, settings, tensors)

    @classmethod
    def restore(cls, folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild what ``save`` wrote, whose state is read already."""
        probe, names = cls(cls.Params(**settings["params"])), [str(name) for name in settings["members"]]
        n = len(names)
        check_shapes(folder, dict(tensors), {"weights": [n + 1], "platt": [2], "mean": [n], "deviation": [n]})
        for name in names:
            probe._check(method_of(name))
        probe.members_ = {name: load_member(name, folder / "members" / name) for name in names}
        probe.left_out_ = [str(name) for name in settings["left_out"]]
        probe.scale_, probe.stack_ = Scale.restore(dict(tensors)), Logistic(tensors["weights"])
        probe.platt_ = tensors["platt"]
        return probe


def _all(traits: Traits) -> list[str]:
    """Return every method that trains, reads no more than a plain extraction and may be stacked here."""
    methods = {name: method_class(name) for name in registry.names("methods")}
    return [
        name
        for name, method in methods.items()
        if method.traits.trains
        and not (method.traits.needs or method.traits.reads_grades or issubclass(method, Stack))
        and (traits.reads_answer or not method.traits.reads_answer)
    ]


@dataclass(frozen=True)
class Choice:
    """Members and penalties of a stack, compared over the folds.

    Attributes:
        said: member → out-of-fold logits ``[N]``.
        labels: ``[N] float32``.
        groups: ``[N]``; samples of one group are not independent.
        folds: that the logits are out of.
        seed: of the regressions.
        strengths: of the penalty, inverse, that are tried.
    """

    said: Mapping[str, Floats]
    labels: npt.NDArray[np.float32]
    groups: npt.NDArray[np.str_]
    folds: Folds
    seed: int
    strengths: Sequence[float]

    def best(self) -> tuple[list[str], float]:
        """Return members and strength: all, less those that lower the log-loss by no more than its standard error."""
        names = list(self.said)
        losses, c = self._least(names)
        while len(names) > 1:
            fewer = [[other for other in names if other != name] for name in names]
            tried = [(*self._least(left), left) for left in fewer]
            worse = [self._worse(some, losses) for some, _, _ in tried]
            number = int(np.argmin(worse))
            if worse[number] > 1:
                break
            losses, c, names = tried[number]
        return names, c

    def held(self, names: Iterable[str], c: float) -> Floats:
        """Return ``[N]`` logits of a stack of some members, each sample's from the other folds."""
        columns, held = np.stack([self.said[name] for name in names], axis=1), np.empty(len(self.labels))
        for inside, outside in self.folds:
            scale = Scale.learn(columns[inside])
            fitted = Logistic.fit(scale(columns[inside]), self.labels[inside], c, self.seed)
            held[outside] = fitted.logits(scale(columns[outside]))
        return held

    def _least(self, names: Sequence[str]) -> tuple[Floats, float]:
        """Return the log-losses ``[N]`` of a stack of some members, and the strength where their mean is least."""
        tried = []
        for c in self.strengths:
            logits = self.held(names, c)
            tried.append((np.logaddexp(0, logits) - self.labels * logits, c))
        return min(tried, key=lambda pair: float(pair[0].mean()))

    def _worse(self, losses: Floats, than: Floats) -> float:
        """Return by how many standard errors a mean loss exceeds another, paired and summed over groups."""
        gap = losses - than
        _, group = np.unique(self.groups, return_inverse=True)
        error = np.sqrt((np.bincount(group, gap - gap.mean()) ** 2).sum()) / len(gap)
        return float(gap.mean() / error) if error > 0 else 0.0
