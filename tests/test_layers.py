"""Nothing heavy where it does not belong, nothing dangerous anywhere; directions are in test_architecture."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "relope"


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_evaluate_and_store_never_import_torch():
    for folder in ("evaluate", "store"):
        for path in (PACKAGE / folder).rglob("*.py"):
            found = {m for m in imported(path) if m.split(".")[0] in ("torch", "transformers")}
            # A PyTorch data set needs torch; whoever wants one imports that file by its own name.
            assert not found or path.name == "torch_data.py", path


def test_no_pickle_eval_or_remote_code():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        keywords = [k for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords]
        remote = [k.value for k in keywords if k.arg == "trust_remote_code"]
        assert not calls & {"eval", "exec", "print"}, path
        assert all(isinstance(value, ast.Constant) and value.value is False for value in remote), path
        assert not imported(path) & {"pickle", "joblib", "dill"}, path


def test_help_loads_neither_torch_nor_transformers():
    code = (
        "import sys; from typer.testing import CliRunner; from relope.cli import app; "
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0, r.output; "
        "print([m for m in ('torch', 'transformers', 'polars', 'numpy', 'sklearn', 'zarr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
