"""The settings that a method's file declares, read without importing it: a misspelt one must not wait for torch."""

import ast
import functools
import importlib.util
from pathlib import Path
from typing import Any

from relope import registry

_BASE = "relope.probes.protocol"
"""Where the root of all settings is, which declares none."""


def declared_settings(method: str) -> dict[str, Any] | None:
    """Return setting → default of a method, or None where its file does not say them plainly."""
    module = registry.module_name("methods", method)
    return None if module is None else _settings(module)


@functools.cache
def _settings(module: str) -> dict[str, Any] | None:
    classes = _classes(module)
    if "Method" not in classes:
        return None
    for line in classes["Method"].body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id == "Params":
            return _fields(module, line.value.id) if isinstance(line.value, ast.Name) else None
    return None


def _fields(module: str, name: str) -> dict[str, Any] | None:
    """Return field → default of a class of settings, those of its bases first."""
    if module == _BASE:
        return {}
    node = _classes(module).get(name)
    if node is None:
        source = _imported(module).get(name)
        return None if source is None else _fields(source, name)
    fields: dict[str, Any] = {}
    for base in node.bases:
        inherited = _fields(module, base.id) if isinstance(base, ast.Name) else None
        if inherited is None:
            return None
        fields |= inherited
    lines = (line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name))
    try:
        return fields | {ast.unparse(line.target): _default(line.value) for line in lines}
    except ValueError:
        return None


def _default(value: ast.expr | None) -> Any:
    """Return a default as its class holds it.

    Raises:
        ValueError: it is no literal.
    """
    if isinstance(value, ast.Call) and value.args:
        value = value.args[0]  # Field(30, ge=1)
    return None if value is None else ast.literal_eval(value)


def _classes(module: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in _tree(module).body if isinstance(node, ast.ClassDef)}


def _imported(module: str) -> dict[str, str]:
    """Return name → the module of ours that it is imported from."""
    imports = (node for node in _tree(module).body if isinstance(node, ast.ImportFrom))
    ours = (node for node in imports if (node.module or "").startswith("relope."))
    return {alias.name: str(node.module) for node in ours for alias in node.names}


@functools.cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ast.Module([], [])
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
