"""``s3://``, ``gs://`` and ``az://`` through obstore."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore import exceptions

from relope.errors import NotFoundError, OutputError, RelopeError
from relope.locations import Location
from relope.store.share.aws import aws_settings
from relope.store.share.remote import SMALL_BYTES, FileVersion, RemoteFile, Sent, cut_short, too_large

_SINGLE_BYTES = 8 << 20
"""Larger files go up in pieces of this size; those of an interrupted one are never seen under the name."""

_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(minutes=2)}
_ANSWER = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", re.DOTALL)
_CAUSE = re.compile(r'message: "([^"]+)"')
_NO_CREDENTIALS = ("/latest/api/token", "/latest/meta-data", "metadata.google", "Account must be specified")
"""The last thing that is asked for credentials is the host of a virtual machine; elsewhere there is none."""

_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
_DENIED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError)
_REFUSED = ("403 Forbidden", "401 Unauthorized", "ExpiredToken", "InvalidToken")
_SIGN_IN = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_SERVICE_ACCOUNT to a key file",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or _SAS_TOKEN), or run `az login`",
}


class ObjectRemote:
    """A prefix of a bucket. Every put appears whole; conditional puts decide who is first."""

    commit_all = None

    def __init__(self, location: Location) -> None:
        self.location = location
        self._prefix = f"{location.key}/" if location.key else ""
        settings: dict[str, Any] = dict(aws_settings()) if location.scheme == "s3" else {}
        plain = str(settings.get("endpoint", "")).startswith("http://")
        client: Any = {"timeout": "5m", "connect_timeout": "10s", "allow_http": plain}
        with self._asking():
            self._store: Any = obstore.store.from_url(
                f"{location.scheme}://{location.root}", client_options=client, retry_config=_RETRIES, **settings
            )

    def files(self, folder: str) -> list[RemoteFile]:
        prefix = f"{self._prefix}{folder}".rstrip("/")
        files = []
        with self._asking():
            for batch in obstore.list(self._store, f"{prefix}/" if prefix else None):
                for entry in batch:
                    name = entry["path"].removeprefix(self._prefix)
                    files.append(RemoteFile(name, entry["size"], entry["last_modified"].timestamp()))
        return sorted(files, key=lambda file: file.name)

    def folders(self) -> list[str]:
        with self._asking():
            listed = obstore.list_with_delimiter(self._store, self._prefix or None)
        return sorted(path.rstrip("/").rpartition("/")[2] for path in listed["common_prefixes"])

    def read(self, name: str, limit: int = SMALL_BYTES) -> FileVersion | None:
        with self._asking():
            try:
                answer = obstore.get(self._store, self._prefix + name)
            except (exceptions.NotFoundError, FileNotFoundError) as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None
            meta = answer.meta
            if meta["size"] > limit:
                raise too_large(self.location, name, meta["size"], limit)
            # Which of the two decides is the service's own affair: Google looks at versions, the others at e_tags.
            tag = json.dumps({key: meta[key] for key in ("e_tag", "version") if meta.get(key)})
            return FileVersion(bytes(answer.bytes()), tag, meta["last_modified"].timestamp())

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        if start == stop:
            return b""
        with self._asking():
            content = bytes(obstore.get_range(self._store, self._prefix + name, start=start, end=stop))
        if len(content) != stop - start:
            raise cut_short(self.location, name, len(content), stop - start)
        return content

    def swap(self, name: str, content: bytes, tag: str | None) -> bool:
        mode: Any = "create" if tag is None else json.loads(tag)
        with self._asking():
            try:
                obstore.put(self._store, self._prefix + name, content, mode=mode)
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileExistsError):
                # A put whose answer was lost is sent again, and then meets itself.
                version = self.read(name)
                return version is not None and version.content == content
        return True

    def upload(self, files: Mapping[str, Path], sent: Sent) -> None:
        for name, path in files.items():
            with self._asking():
                content: Any = path.read_bytes() if path.stat().st_size <= _SINGLE_BYTES else _pieces(path, sent)
                obstore.put(self._store, self._prefix + name, content, chunk_size=_SINGLE_BYTES, max_concurrency=2)
                if isinstance(content, bytes):
                    sent(len(content))

    def delete(self, names: Sequence[str]) -> None:
        with self._asking():
            for name in names:
                with contextlib.suppress(exceptions.NotFoundError, FileNotFoundError):  # somebody else was faster
                    obstore.delete(self._store, self._prefix + name)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn what obstore raises into one or two lines."""
        try:
            yield
        except RelopeError:
            raise
        except (exceptions.BaseError, FileNotFoundError, PermissionError) as error:
            raise self._plain(error) from error

    def _plain(self, error: Exception) -> RelopeError:
        text, uri, sign_in = str(error), self.location.uri, _SIGN_IN[self.location.scheme]
        if any(mark in text for mark in _NO_BUCKET):
            return NotFoundError(
                f"there is no bucket {self.location.root!r} for {uri}", hint="make it, or correct the name"
            )
        if isinstance(error, (exceptions.NotFoundError, FileNotFoundError)):
            return NotFoundError(f"{uri} lacks a file that was listed a moment ago: {_reason(text)}")
        if any(mark in text for mark in _NO_CREDENTIALS):
            return NotFoundError(f"no credentials for {uri}", hint=sign_in)
        if isinstance(error, _DENIED) or any(mark in text for mark in _REFUSED):
            return OutputError(f"{uri} refuses these credentials: {_reason(text)}", hint=sign_in)
        if "NotImplemented" in text or isinstance(error, exceptions.NotSupportedError):
            return OutputError(f"{uri}: this server lacks conditional writes (If-None-Match), which sharing needs")
        if "redirect" in text.lower():
            return OutputError(f"{uri} lies in another region", hint="set AWS_REGION to the region of the bucket")
        return OutputError(
            f"{uri} cannot be reached: {_reason(text)}", hint="check the network and the endpoint, then run it again"
        )


def _pieces(path: Path, sent: Sent) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_SINGLE_BYTES):
            yield block
            sent(len(block))


def _reason(text: str) -> str:
    """Return what matters of an error of obstore, which dumps all its internals."""
    if said := _ANSWER.search(text):
        return f"{said[1]}: {said[2]}"
    line = text.strip().partition("\n")[0].rpartition(" - ")[2]
    cause = _CAUSE.search(text)
    return f"{line[:160]} ({cause[1]})" if cause else line[:160]
