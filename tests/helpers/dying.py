"""A process that is killed in the middle of its work."""

import os


def die(*given: object) -> None:
    """End this process at once, as a kernel short of memory does."""
    os._exit(9)
