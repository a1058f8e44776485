"""Settings that the ``aws`` tool uses and obstore does not read: profiles and endpoints."""

import configparser
import os
from pathlib import Path

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


def aws_settings() -> dict[str, str]:
    """Return keyword arguments for obstore: endpoint, region and the keys of a profile.

    The environment goes before the files, as in the aws tool; keys of the environment, of containers
    and of roles are left to obstore.
    """
    name = os.environ.get("AWS_PROFILE", "default")
    config = _section("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}")
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or os.environ.get("AWS_ENDPOINT")
        or config.get("endpoint_url", "")
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or config.get("region", "us-east-1")
    settings = {"region": region, **({"endpoint": endpoint} if endpoint else {})}
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        keys = config | _section("AWS_SHARED_CREDENTIALS_FILE", "credentials", name)
        settings |= {key.removeprefix("aws_"): keys[key] for key in _KEYS if key in keys}
    return settings


def _section(variable: str, file: str, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(os.environ.get(variable) or Path.home() / ".aws" / file, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}
    return dict(parser[name]) if parser.has_section(name) else {}
