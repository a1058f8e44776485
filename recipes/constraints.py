"""Write docker/constraints.txt: what relope needs, and what that needs, at the versions that are installed here.

    python recipes/constraints.py

Packages that come with a GPU alone are left out: which torch is installed decides them.
"""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
EXTRAS = ("endpoint", "serve")
GPU = re.compile(r"nvidia-|cuda-|triton")
HEAD = "# Versions that the images are built with; recipes/constraints.py writes them.\n"


def needed() -> dict[str, str]:
    """Return name → version of everything that the images install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [
        *project["dependencies"],
        *(text for extra in EXTRAS for text in project["optional-dependencies"][extra]),
    ]
    pinned: dict[str, str] = {}
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in pinned or GPU.match(name):
            continue
        try:
            pinned[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue  # an extra's, or for another system
        waiting += [text for text in requires(name) or () if wanted(text, requirement.extras)]
    return pinned


def wanted(text: str, extras: set[str]) -> bool:
    marker = Requirement(text).marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def main() -> None:
    lines = [f"{name}=={number}\n" for name, number in sorted(needed().items())]
    (ROOT / "docker" / "constraints.txt").write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
