"""What grades are called, ``grader@version`` or ``judge:MODEL@version``, and what their files are."""

import re
from pathlib import Path

from relope.errors import InvalidInputError
from relope.store.format.layout import grades_folder

_NAME = re.compile(r"\w[\w.+-]*")
_JUDGE = re.compile(r"[a-z][a-z0-9-]*:[A-Za-z0-9_.+:/@-]{1,80}")
_NO_FILE = re.compile(r"[^A-Za-z0-9_.-]")
_QUOTED = re.compile(r"\+([0-7][0-9A-F])")


def grades_path(store: Path, grader: str, version: str) -> Path:
    """Return where one grader's grades are kept.

    Raises:
        InvalidInputError: the name or the version holds more than letters, digits and ``_ . + -``.
    """
    stem = grades_stem(f"{grader}@{version}")
    for name in stem.rsplit("@", 1):  # a judge's model may hold an @, which the whole name alone tells from ours
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"grader name or version {name!r} must be letters, digits and _ . + - only")
    return grades_folder(store) / f"{stem}.parquet"


def grades_stem(name: str) -> str:
    """Return what the file of ``grader@version`` is called, without its ending.

    Of a judge's name, ``judge:MODEL@version``, every character of the grader that is none of a file's becomes ``+``
    and two digits (hex), as in ``judge+3Agpt-4.1@1``; all others are called as they are.
    """
    if not _JUDGE.fullmatch(name.rsplit("@", 1)[0]):
        return name
    grader, *version = name.rsplit("@", 1)
    return "@".join((_NO_FILE.sub(lambda match: f"+{ord(match[0]):02X}", grader), *version))


def grades_name(stem: str) -> str:
    """Return the ``grader@version`` that a file is called after: the inverse of `grades_stem`."""
    name = _QUOTED.sub(lambda match: chr(int(match[1], 16)), stem) if "+3A" in stem else stem
    return name if grades_stem(name) == stem else stem  # a stranger's file stays what it says


def is_judge(grader: str) -> bool:
    """Tell whether a name is that of a grader and the model that it asks, ``judge:MODEL``."""
    return _JUDGE.fullmatch(grader) is not None
