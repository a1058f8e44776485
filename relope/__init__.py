"""Route between a small and a large (multimodal) LLM by the small one's hidden states.

::

    import relope

    made = relope.extract(model="tiny-vl", dataset="tiny", limit=500, out="runs/tiny.zarr")
    relope.fit("probe", store=made.path)                       # relope.load_router(folder).predict_proba(store)
    report = relope.evaluate(store=made.path, methods=["probe", "logprob"])

Every step of the command line is a function here: its flags are keyword arguments, its result a
typed outcome. Nothing heavy loads until it is used. docs/python.md has a tour.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

from relope.version import __version__ as __version__

STEPS = (
    "extract", "plan", "caption", "grade", "import_", "fit", "sweep", "explain", "export", "predict", "calibrate",
    "route", "serve", "vllm_command", "recommend", "evaluate", "view", "study", "compare", "doctor",
)  # fmt: skip
"""Steps that are functions of this module, ``import`` with the ``_`` that Python's own words get; those of
``relope store …`` run by `relope.steps.run`."""

NAMES = {
    "open_store": "relope.store",
    "ActivationStore": "relope.store",
    "load_router": "relope.probes.router",
    "Router": "relope.probes.router",
    "load_bundle": "relope.serve.bundle",
    "Bundle": "relope.serve.bundle",
    "Sample": "relope.types",
    "Generation": "relope.types",
    "Grade": "relope.types",
    "RelopeError": "relope.errors",
}
"""Name → the module that it is taken from when it is first used."""

ROOMS = ("extract", "evaluate", "serve", "view", "doctor")
"""Steps that are called like the package that does their work: that package can be called."""

__all__ = ["__version__", *STEPS, *NAMES]


def _step(name: str) -> Any:
    from relope.steps.functions import step_function

    return step_function(name.removesuffix("_").replace("_", "-"))


class _Room(ModuleType):
    """A package that is a step as well."""

    def __call__(self, *values: Any, **settings: Any) -> Any:
        """Run the step."""
        return _step(self.__name__.rpartition(".")[2])(*values, **settings)

    @property
    def __signature__(self) -> Any:
        """The step's arguments, for ``help`` and notebooks."""
        return _step(self.__name__.rpartition(".")[2]).__signature__


class _Face(ModuleType):
    """This module: the import system sets a package as its attribute, and that package is made callable."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in ROOMS and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return importlib.import_module(f"relope.{name}")
    if name in STEPS:
        return _step(name)
    if name in NAMES:
        return getattr(importlib.import_module(NAMES[name]), name)
    raise AttributeError(f"module 'relope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
