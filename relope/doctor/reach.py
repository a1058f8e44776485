"""What is reached from here: the hub, clouds, ports. Of a secret only whether there is one is ever told."""

import importlib.util
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from relope.doctor.finding import Finding

_PATIENCE_S = 3.0
_CLOUDS: dict[str, tuple[tuple[str, ...], str]] = {
    "S3": (
        ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        ".aws/credentials",
    ),
    "Google Cloud": (
        ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"),
        ".config/gcloud/application_default_credentials.json",
    ),
    "Azure": (
        ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_TOKEN", "AZURE_CLIENT_ID"),
        ".azure",
    ),
}
"""Cloud → the variables and the file below the home folder that its credentials are read from."""


def hub() -> Iterator[Finding]:
    """Yield whether the Hugging Face hub is reached, and whether there is a token; never the token."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", "ok", "switched off by HF_HUB_OFFLINE: what is not in the cache is not fetched")
    elif why := _unreachable(constants.ENDPOINT):
        yield Finding(
            "hub",
            "warning",
            f"{constants.ENDPOINT} is not reached ({why})",
            "embedded models, local checkpoints and what is in the cache work without it",
        )
    else:
        yield Finding("hub", "ok", f"{constants.ENDPOINT} is reached")
    if get_token():
        yield Finding("hub token", "ok", "there is one")
    else:
        yield Finding("hub token", "ok", "none", "for gated models, and to push: hf auth login")


def _unreachable(url: str) -> str:
    """Return why an address does not answer, ``""`` where it does, whatever it answers."""
    told: list[str] = []
    # A name server that does not answer keeps to no time limit of ours.
    asking = threading.Thread(target=lambda: told.append(_asked(url)), daemon=True)
    asking.start()
    asking.join(_PATIENCE_S)
    return told[0] if told else f"no answer in {_PATIENCE_S:g} s"


def _asked(url: str) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE_S):
            return ""
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return str(getattr(reason, "strerror", None) or reason)[:120]


def clouds() -> Finding:
    """Return of which clouds there are credentials; never the credentials."""
    there = [name for name, (variables, file) in _CLOUDS.items()
             if any(os.environ.get(variable) for variable in variables) or (Path.home() / file).exists()]  # fmt: skip
    said = f"credentials of {', '.join(there)}" if there else "no credentials of S3, Google Cloud or Azure"
    if there and importlib.util.find_spec("obstore") is None:
        return Finding(
            "clouds", "ok", f"{said}; the extra is not installed", "for stores in buckets: pip install 'relope[cloud]'"
        )
    return Finding("clouds", "ok", said)


def ports(servers: Mapping[int, str]) -> Iterator[Finding]:
    """Yield whether the ports that servers listen at are free: port → what listens there."""
    for number, server in servers.items():
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                made.bind(("127.0.0.1", number))
            except OSError as error:
                yield Finding(
                    f"port {number}",
                    "warning",
                    f"{error.strerror or error}, where {server} would listen",
                    "give another with --port, or --port 0 for any that is free",
                )
            else:
                yield Finding(f"port {number}", "ok", f"free on 127.0.0.1, for {server}")
