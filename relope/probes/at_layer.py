"""A method at a layer of its own, whatever the router's: how a stack reads several stored layers."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from relope.probes.examples import Examples
from relope.probes.protocol import Probe, fitted_class, make
from relope.types import Progress, no_progress

Floats = npt.NDArray[np.float32]


class AtLayer:
    """Base of a method's subclass that reads layer ``at`` where it is asked to read the router's."""

    at: ClassVar[int]

    def layers(self, layer: int) -> tuple[int, ...]:
        """Return the layers that it reads, wherever the router reads."""
        return super().layers(self.at)  # type: ignore[misc, no-any-return]

    def fit(self, examples: Examples, *, seed: int, progress: Progress = no_progress) -> Any:
        """Learn from labelled examples at its layer."""
        return super().fit(replace(examples, layer=self.at), seed=seed, progress=progress)  # type: ignore[misc]

    def predict_proba(self, examples: Examples) -> Floats:
        """Return ``[N] float32``: P(correct), from its layer."""
        return super().predict_proba(replace(examples, layer=self.at))  # type: ignore[misc, no-any-return]


@functools.cache
def at_layer(method: type[Any], layer: int) -> type[Probe]:
    """Return the class of a method that reads one layer; it can do what else the method can."""

    def there(name: str) -> Any:
        of_method = getattr(method, name)
        return lambda self, examples: of_method(self, replace(examples, layer=layer))

    about = {name: there(name) for name in ("features", "token_weights") if hasattr(method, name)}
    return type(method.__name__, (AtLayer, method), {"at": layer, **about})


def named(method: str, layer: int) -> str:
    """Return what a method at a layer of its own is called: ``kernel-probe@2``."""
    return f"{method}@{layer}"


def method_of(name: str) -> str:
    """Return the method of a name, with a layer or without."""
    return name.partition("@")[0]


def make_member(name: str, settings: dict[str, Any]) -> Probe:
    """Return an unfitted method, at a layer of its own where its name has one."""
    method, _, layer = name.partition("@")
    probe = make(method, settings)
    return at_layer(type(probe), int(layer))(probe.params) if layer else probe


def load_member(name: str, folder: Path) -> Probe:
    """Return a fitted method that was saved into a folder, at a layer of its own where its name has one.

    Raises:
        NotFoundError: unknown method.
        StoreError: the folder holds none, or a damaged one.
    """
    method, _, layer = name.partition("@")
    kind = fitted_class(method, folder)
    return (at_layer(kind, int(layer)) if layer else kind).load(folder)
