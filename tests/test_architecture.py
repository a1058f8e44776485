"""The house: which room may read which, no circles, nobody's private names, plug-in folders of plug-ins only.

Imports inside functions and those for type checkers count like any other: what a file needs, it knows.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relope import registry

PACKAGE = Path(__file__).parents[1] / "relope"
BASE = "base"
"""The files right below the package: records, errors, specifications, the registry."""

MAY_READ: dict[str, set[str]] = {
    "face": {"steps", "spec"},
    "start": {"cli"},
    "cli": {"commands", "pipeline", "steps", "spec", "cluster"},
    "commands": {"pipeline", "steps", "spec"},
    "pipeline": {"steps", "spec", "cluster"},
    "spec": set(),
    "steps": {
        "spec",
        "cards",
        "cluster",
        "extract",
        "extract.model",
        "extract.endpoint",
        "extract.importing",
        "extract.data",
        "extract.grading",
        "probes",
        "evaluate",
        "evaluate.studies",
        "evaluate.pages",
        "evaluate.numbers",
        "serve",
        "serve.apart",
        "serve.engines",
        "serve.local",
        "store.face",
        "store",
        "store.share",
        "vllm",
        "view",
        "doctor",
    },
    "cards": set(),
    "doctor": set(),
    "cluster": set(),
    "view": {"serve", "evaluate.pages", "evaluate.numbers", "store.face", "store"},
    "serve": {"cards", "evaluate.numbers", "extract.model", "extract.data", "probes", "store.face", "store"},
    "serve.local": {"serve", "extract.model", "extract.data", "probes", "store.face", "store"},
    "serve.apart": {"serve", "serve.local", "extract.model", "extract.data", "probes", "store.face", "store", "vllm"},
    "serve.engines": {
        "serve",
        "serve.local",
        "serve.apart",
        "extract.model",
        "extract.data",
        "probes",
        "store.face",
        "store",
        "vllm",
    },
    "extract": {
        "extract.model",
        "extract.endpoint",
        "extract.importing",
        "extract.data",
        "extract.grading",
        "store.face",
        "store",
        "vllm",
    },
    "extract.engines": {
        "cluster",
        "extract",
        "extract.model",
        "extract.endpoint",
        "extract.data",
        "store.face",
        "store",
        "vllm",
    },
    "extract.model": {"extract.data"},
    "extract.endpoint": {"extract.data"},
    "extract.backbones": {"extract.model"},
    "extract.datasets": {"extract.data", "tiny"},
    "extract.importers": {"extract.importing", "extract.data"},
    "extract.importing": {"extract.data"},
    "extract.data": {"extract.grading"},
    "extract.grading": set(),
    "extract.graders": {"extract.grading"},
    "probes": {"store.face", "store"},
    "probes.methods": {"probes", "store.face", "store"},
    "evaluate": {"evaluate.studies", "evaluate.pages", "evaluate.numbers"},
    "evaluate.studies": {"evaluate.pages", "evaluate.numbers"},
    "evaluate.pages": {"evaluate.numbers"},
    "evaluate.numbers": set(),
    "store.face": {"store", "store.share", "store.format"},
    "store.share": {"store", "store.format"},
    "store": {"store.format"},
    "store.format": set(),
    "vllm": set(),
    "vllm.plugin": set(),
    "tiny": {"tiny.scenes"},
    "tiny.scenes": set(),
    BASE: set(),
}
"""Room → the rooms that its files may import, besides their own and the base."""

ROOM_OF = {
    "relope": "face",
    "relope.__main__": "start",
    "relope.cli": "cli",
    "relope.store": "store.face",
    "relope.store.open": "store.face",
}
"""Files that are a room of their own: the public face, and what opens a store, which stands above both kinds."""

PLUGINS = {
    "extract/backbones": "backbones",
    "extract/datasets": "datasets",
    "extract/engines": "extract_engines",
    "extract/graders": "graders",
    "extract/importers": "importers",
    "probes/methods": "methods",
    "serve/engines": "engines",
}
"""Folder → the kind of plug-in that it holds."""


@dataclass(frozen=True)
class Import:
    """One import: the file that has it, the module that it reads, and the names that it takes."""

    reader: str
    module: str
    names: tuple[str, ...]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """Return the room that a module lies in."""
    if module in ROOM_OF:
        return ROOM_OF[module]
    folder = MODULES[module].relative_to(PACKAGE).parent
    return ".".join(folder.parts) or BASE


def imports_of(module: str) -> Iterator[Import]:
    """Yield the imports of our own modules, wherever in a file they stand."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in MODULES:
                    yield Import(module, alias.name, ())
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(module, inner, ()) if inner in MODULES else Import(module, node.module, (alias.name,))


IMPORTS = [one for module in MODULES for one in imports_of(module)]


def test_every_room_is_in_the_plan():
    assert {room(module) for module in MODULES} <= MAY_READ.keys()


@pytest.mark.parametrize("here", sorted(MAY_READ))
def test_imports_point_one_way(here):
    allowed = MAY_READ[here] | {here, BASE}
    wrong = {
        f"{one.reader} -> {one.module}"
        for one in IMPORTS
        if room(one.reader) == here and room(one.module) not in allowed
    }
    assert not wrong


def test_nothing_below_a_step_takes_a_spec():
    wrong = {
        one.reader
        for one in IMPORTS
        if room(one.module) == "spec" and room(one.reader) not in ("cli", "commands", "pipeline", "steps", "spec")
    }
    assert not wrong


def circles() -> list[list[str]]:
    """Return the sets of files that import one another in a ring (Tarjan's strongly connected components)."""
    follows: dict[str, set[str]] = {module: set() for module in MODULES}
    for one in IMPORTS:
        follows[one.reader].add(one.module)
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in follows[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            ring = [stack.pop()]
            while ring[-1] != module:
                ring.append(stack.pop())
            if len(ring) > 1 or module in follows[module]:
                found.append(sorted(ring))

    for module in MODULES:
        if module not in number:
            visit(module)
    return found


def test_no_files_import_one_another_in_a_ring():
    assert circles() == []


def test_no_private_name_crosses_a_folder():
    wrong = {
        f"{one.reader} takes {one.module}.{name}"
        for one in IMPORTS
        for name in (*one.names, one.module.rpartition(".")[2])
        if name.startswith("_") and not name.startswith("__")
        if MODULES[one.reader].parent != MODULES[one.module].parent
    }
    assert not wrong


@pytest.mark.parametrize("folder", sorted(PLUGINS))
def test_plugin_folders_hold_plugins_only(folder):
    files = {path.name for path in (PACKAGE / folder).iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert len(files) == len(registry.names(PLUGINS[folder]))
    assert not {name for name in files if name.startswith("_") or not name.endswith(".py")}
    init = ast.parse((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8"))
    assert [node for node in init.body if not isinstance(node, ast.Expr)] == [], "a plug-in folder's face is empty"


def test_the_package_has_no_loose_rooms():
    """What stands right below the package is the base; everything else lives in a room."""
    loose = {path.stem for path in PACKAGE.glob("*.py")}
    assert loose <= {
        "__init__",
        "__main__",
        "asked",
        "cli",
        "command_line",
        "fields",
        "types",
        "errors",
        "grouped",
        "locations",
        "registry",
        "partial",
        "provenance",
        "proxy",
        "redact",
        "retry_after",
        "seals",
        "rope",
        "version",
        "words",
    }


def test_a_step_s_file_loads_no_heavy_library():
    """A plan or a dry run opens every step's file; torch and transformers load when a step runs."""
    code = (
        "import sys; from relope.spec import SPECS; from relope.steps import open_step; "
        "[open_step(step) for step in SPECS]; "
        "print([name for name in ('torch', 'transformers', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
