"""Write ``relope/__init__.pyi``: the public face as type checkers and editors see it, made from the specifications.

``python recipes/face_stub.py`` writes it; a test fails when it is not what the specifications say.
"""

import inspect
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import relope
from relope.fields import Positional, Words, marked
from relope.spec import SPECS
from relope.steps.functions import documentation, parameters, result_type

STUB = Path(__file__).parents[1] / "relope" / "__init__.pyi"
PATHS = {"store", "reuse", "large_store", "labels_store", "dataset", "model", "router"}
"""Fields of text that may also be given as a path."""

HEAD = '''"""Route between a small and a large (multimodal) LLM by the small one's hidden states."""

# Made by recipes/face_stub.py from relope/spec/; do not edit.

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal

'''


def annotation(kind: Any) -> str:
    """Return a field's type as a caller may give it: paths and lists in their looser forms."""
    if kind == Words:
        return "str | Sequence[str]"
    if kind is Path:
        return "str | PathLike[str]"
    origin = get_origin(kind)
    if origin is Annotated:
        return annotation(get_args(kind)[0])
    if origin is Literal:
        return f"Literal[{', '.join(repr(value) for value in get_args(kind))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(annotation(part) for part in get_args(kind))
    if origin is dict:
        return "Mapping[str, Any]"
    return "None" if kind is type(None) else getattr(kind, "__name__", "Any")


def function(step: str) -> str:
    """Return the stub of one step."""
    name = step.removesuffix("_").replace("_", "-")
    kind = SPECS[name]
    first, given, starred = marked(kind, Positional), [], False
    for parameter in parameters(kind):
        if parameter.name not in first and not starred:
            given.append("*")
            starred = True
        text = annotation(parameter.annotation)
        if parameter.name in PATHS and text.startswith("str") and "PathLike" not in text:
            text = text.replace("str", "str | PathLike[str]", 1)
        default = "" if parameter.default is inspect.Parameter.empty else " = ..."
        given.append(f"{parameter.name}: {text}{default}")
    given.append("watch: Watch = ...")
    arguments = "".join(f"    {line},\n" for line in given)
    body = documentation(kind).replace("\n", "\n    ").replace("\n    \n", "\n\n")
    return f'def {step}(\n{arguments}) -> {result_type(name).__name__}:\n    """{body}\n    """\n'


def stub() -> str:
    """Return the whole file."""
    names: dict[str, list[str]] = {}
    for name, module in relope.NAMES.items():
        names.setdefault(module, []).append(name)
    for step in relope.STEPS:
        result = result_type(step.removesuffix("_").replace("_", "-"))
        names.setdefault(result.__module__, []).append(result.__name__)
    names["relope.types"].append("Watch")
    imports = [
        f"from {module} import {', '.join(f'{name} as {name}' for name in sorted(set(listed)))}"
        for module, listed in sorted(names.items())
    ]
    functions = "\n".join(function(step) for step in relope.STEPS)
    return f"{HEAD}{chr(10).join(imports)}\n\n__version__: str\n\n{functions}"


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
