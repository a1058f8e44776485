"""Print what CHANGELOG.md says of a version: the notes of its release.

    python recipes/release_notes.py 0.2.0

It refuses a version that is not the package's, or that the change log has nothing of.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes_of(version: str, log: str) -> str:
    """Return the section of a version, without its heading; ``""`` where there is none."""
    heading = rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |^\[[^\]]+\]: |\Z)"
    section = re.search(heading, log, re.DOTALL | re.MULTILINE)
    return section[1].strip() if section else ""


def main(version: str) -> int:
    text = (ROOT / "relope" / "version.py").read_text(encoding="utf-8")
    own = re.search(r'__version__ = "([^"]+)"', text)
    if own is None or own[1] != version:
        sys.stderr.write(f"relope/version.py says {own[1] if own else 'nothing'}, not {version}\n")
        return 1
    notes = notes_of(version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    if not notes:
        sys.stderr.write(f"CHANGELOG.md has no section ## [{version}]\n")
        return 1
    sys.stdout.write(f"{notes}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
