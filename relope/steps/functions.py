"""Steps as functions of Python: the fields of a specification are their arguments."""

import functools
import inspect
import keyword
import os
import re
from collections.abc import Callable
from typing import Any, get_type_hints

from relope.fields import Positional, Spec, marked
from relope.spec import SPECS, build
from relope.steps.step import open_step
from relope.types import Outcome, silent

_FLAG = re.compile(r"--([a-z][a-z-]*)")


def _argument(flag: re.Match[str]) -> str:
    """Return a flag as the argument that it is here; another program's stays as it is."""
    name = flag[1].replace("-", "_")
    return name if any(name in spec.model_fields for spec in SPECS.values()) else flag[0]


@functools.cache
def step_function(name: str) -> Callable[..., Outcome]:
    """Return the function that runs a step.

    Paths may be given as text or as ``os.PathLike``, several words as a list or with commas.
    ``watch`` takes a function from a label to a context that gives a progress callback.
    """
    kind = SPECS[name]
    first = list(marked(kind, Positional))

    def function(*values: Any, watch: Any = silent, **settings: Any) -> Outcome:
        if len(values) > len(first):
            raise TypeError(f"{name}() takes {len(first)} values without a name, not {len(values)}")
        given = {**dict(zip(first, values, strict=False)), **settings}
        plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in given.items()}
        return open_step(name).run(build(name, plain), watch)

    function.__name__ = function.__qualname__ = f"{name}_" if keyword.iskeyword(name) else name.replace("-", "_")
    function.__doc__ = documentation(kind)
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters(kind), return_annotation=result_type(name)
    )
    return function


def result_type(name: str) -> type[Outcome]:
    """Return the kind of outcome that a step gives."""
    return get_type_hints(open_step(name).run).get("return", Outcome)  # type: ignore[no-any-return]


def parameters(kind: type[Spec]) -> list[inspect.Parameter]:
    """Return the fields of a specification as parameters, those without a flag first."""
    first = marked(kind, Positional)
    ordered = sorted(kind.model_fields.items(), key=lambda item: (item[0] not in first, not item[1].is_required()))
    return [
        inspect.Parameter(
            field,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if field in first else inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if info.is_required() else info.get_default(call_default_factory=True),
            annotation=info.annotation,
        )
        for field, info in ordered
    ]


def documentation(kind: type[Spec]) -> str:
    """Return a docstring: what the step does, and what each field means."""
    described = {field: _FLAG.sub(_argument, info.description or "") for field, info in kind.model_fields.items()}
    lines = [f"    {field}: {text}" for field, text in described.items()]
    about = _FLAG.sub(_argument, inspect.cleandoc(kind.__doc__ or ""))
    return "\n".join([about, "", "Args:", *lines, "", "Raises:",
                      "    RelopeError: what the user can mend."])  # fmt: skip
