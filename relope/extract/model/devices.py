"""Names of devices; without torch, so that a wrong one is told before anything loads."""

import re

from relope.errors import InvalidInputError

DEVICES = "auto, cpu, cuda or cuda:0"


def check_device(name: str) -> None:
    """Refuse what names no device that relope runs on; whether it is here is seen when torch has loaded.

    Raises:
        InvalidInputError: it is none of ``DEVICES``.
    """
    if not re.fullmatch(r"auto|cpu(:0)?|cuda(:\d{1,3})?", name):
        raise InvalidInputError(f"unknown device {name!r} (there is: {DEVICES})", hint="e.g. --device cpu")
