"""Where a store is: a folder of this machine, or a URI of an object store or of the Hugging Face Hub."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from relope.errors import InvalidInputError
from relope.redact import hide

SCHEMES = ("file", "s3", "gs", "az", "hf")
EXAMPLES = "file:///mnt/team/x.zarr, s3://bucket/x.zarr, gs://…, az://container/…, hf://datasets/team/repo/x.zarr"
_LOST_SLASH = re.compile(rf"({'|'.join(SCHEMES)}):/(?!/)")
_STEP = re.compile(r"[\w][\w.+=@ ~-]*")
"""One step of a path; a first letter or digit keeps out ``..`` and hidden names."""


@dataclass(frozen=True)
class Location:
    """A URI taken apart.

    Attributes:
        uri: the whole, without a trailing slash.
        scheme: one of ``SCHEMES``.
        root: bucket or container; ``datasets/<team>/<repo>``, ``models/…`` or ``buckets/…`` for hf; empty for file.
        key: the path below the root; absolute for file; may be empty.
    """

    uri: str
    scheme: str
    root: str
    key: str

    @property
    def name(self) -> str:
        """The last step of the path."""
        return (self.key or self.root).rstrip("/").rpartition("/")[2]

    @property
    def above(self) -> str:
        """The folder that this one lies in, on this machine the nearest that is there; ``""`` at the top."""
        if self.scheme == "file":
            return next((str(folder) for folder in Path(self.key).parents if folder.is_dir()), "")
        return self.uri.rpartition("/")[0] if self.key.strip("/") else ""

    def below(self, name: str) -> "Location":
        """Return the location of a folder right below this one."""
        inner = quote(name) if self.scheme == "file" else name
        return Location(f"{self.uri}/{inner}", self.scheme, self.root, f"{self.key}/{name}" if self.key else name)


def is_uri(ref: Path | str) -> bool:
    """Return whether a reference is a URI and not a path.

    Raises:
        InvalidInputError: a URI that was a path once and has lost a slash.
    """
    if uri := uri_of_path(ref):
        raise InvalidInputError(f"{str(ref)!r} has one slash after the scheme", hint=f"write {uri!r}, as text")
    return "://" in str(ref)


def uri_of_path(ref: Path | str) -> str:
    """Return the URI that a path was made of, which lost a slash; ``""`` of any other path."""
    text = str(ref)
    return text.replace(":/", "://", 1) if _LOST_SLASH.match(text) else ""


def parse_uri(uri: str) -> Location:
    """Take a URI apart.

    Raises:
        InvalidInputError: an unknown scheme, no bucket, or a step of the path that could lead elsewhere.
    """
    scheme, _, rest = uri.partition("://")
    if scheme not in SCHEMES:
        raise InvalidInputError(f"unknown scheme {scheme!r} of {uri} ({', '.join(SCHEMES)})", hint=f"e.g. {EXAMPLES}")
    rest = rest.rstrip("/")
    if scheme == "file":
        if not rest.startswith("/"):
            raise InvalidInputError(
                f"{uri} must have three slashes and a whole path", hint="e.g. file:///mnt/team/x.zarr"
            )
        return Location(f"file://{rest}", scheme, "", unquote(rest))
    steps = rest.split("/")
    hide(steps[0].rpartition("@")[0])
    if strange := [step for step in steps if not _STEP.fullmatch(step)]:
        raise InvalidInputError(f"{uri} has the step {strange[0]!r}, which is not allowed", hint=f"e.g. {EXAMPLES}")
    n_root = 3 if scheme == "hf" else 1
    if scheme == "hf" and (len(steps) < n_root or steps[0] not in ("datasets", "models", "buckets")):
        raise InvalidInputError(
            f"{uri} must be hf://datasets/<team>/<repo>/…, hf://models/<team>/<repo>/… or hf://buckets/<team>/<bucket>/…"
        )
    return Location(f"{scheme}://{rest}", scheme, "/".join(steps[:n_root]), "/".join(steps[n_root:]))


def as_location(ref: Path | str) -> Location:
    """Return the location of a URI, or of a folder of this machine."""
    if is_uri(ref):
        return parse_uri(str(ref))
    path = Path(ref).absolute()
    return Location(path.as_uri(), "file", "", str(path))


def local_folder(ref: Path | str) -> Path | None:
    """Return the folder that a reference names, as it was given; None when it is not on this machine."""
    if not is_uri(ref):
        return Path(ref)
    location = parse_uri(str(ref))
    return Path(location.key) if location.scheme == "file" else None


def store_ref(value: object) -> object:
    """Return a reference to a store as text: a checked URI, or a path without a trailing slash.

    Raises:
        InvalidInputError: as `parse_uri`.
    """
    if not isinstance(value, (str, Path)) or not str(value):
        return value
    return parse_uri(str(value)).uri if is_uri(value) else str(Path(value))


TEXTS = ("prompt_template", "chat_template")
"""Keys of texts, which may begin as a path does."""

_STARTS = ("/", "./", "../", "~", "\\\\")


def is_path(value: object) -> bool:
    """Tell whether a recorded value is a path of this machine, and no name, hub id or URI."""
    return isinstance(value, str) and (value.startswith(_STARTS) or value[1:3] in (":\\", ":/"))


def names_only(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded with the last step of each path in its place, in objects and lists within it too."""
    return {key: value if key in TEXTS else _named(value) for key, value in recorded.items()}


def named(value: str) -> str:
    """Return the last step of a path of this machine; a name, hub id or URI as it is."""
    return Path(value.replace("\\", "/")).name if is_path(value) else value


def _named(value: Any, depth: int = 8) -> Any:
    """Name what lies in a value; nothing of ours is nested deeper, and what is made to be shall end nothing."""
    if isinstance(value, Mapping) and depth:
        return {key: _named(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) and depth:
        return [_named(inner, depth - 1) for inner in value]
    return named(value) if isinstance(value, str) else value
