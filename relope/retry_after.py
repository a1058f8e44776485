"""``Retry-After``: how long a busy server wants to be left alone."""

import email.utils
import re
import time

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def asked_wait_s(header: str) -> float | None:
    """Return the seconds that a header asks for, which names seconds or a date (RFC 9110 10.2.3); None: neither."""
    asked = header.strip()
    if _SECONDS.fullmatch(asked):
        return float(asked)
    try:
        moment = email.utils.parsedate_to_datetime(asked).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - time.time())
