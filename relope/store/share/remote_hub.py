"""``hf://datasets/…``, ``hf://models/…`` and ``hf://buckets/…`` through huggingface_hub.

A repository is a sequence of commits: a part goes up in one of them, as a catalog does, that
names its parent, so that of two people only one succeeds. A bucket has neither commits nor
conditional writes: what was written is read again, and a lost race is then lost by one catalog,
which the next push puts right.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem
from huggingface_hub.errors import (
    BucketNotFoundError,
    EntryNotFoundError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from relope.errors import NotFoundError, OutputError, RelopeError
from relope.locations import Location
from relope.provenance import digest
from relope.store.share.remote import SMALL_BYTES, CommitAll, FileVersion, RemoteFile, Sent, cut_short, too_large

_ATTEMPTS = 20
_UNREACHABLE: tuple[type[Any], ...] = HfHubHTTPError.__bases__
"""Whatever the HTTP library below huggingface_hub raises when there is no answer, and OSError."""

_SIGN_IN = "run `hf auth login`, or set HF_TOKEN to a token that may write there"


class HubRemote:
    """A folder of a repository or of a bucket; api and file_system are given in tests."""

    def __init__(self, location: Location, api: Any = None, file_system: Any = None) -> None:
        self.location = location
        kind, _, self._id = location.root.partition("/")
        self._type = kind.removesuffix("s")
        self._commits = kind != "buckets"
        self._prefix = f"{location.key}/" if location.key else ""
        self._api: Any = api or HfApi()
        self._file_system: Any = file_system or HfFileSystem(use_listings_cache=False)

    def files(self, folder: str) -> list[RemoteFile]:
        path = f"{self._prefix}{folder}".rstrip("/")
        files = [
            RemoteFile(entry.path.removeprefix(self._prefix), entry.size, _modified(entry))
            for entry in self._tree(path, recursive=True)
            if hasattr(entry, "size") and (not path or entry.path.startswith(f"{path}/"))
        ]
        return sorted(files, key=lambda file: file.name)

    def folders(self) -> list[str]:
        entries = self._tree(self._prefix.rstrip("/"), recursive=False)
        paths = [entry.path for entry in entries if not hasattr(entry, "size")]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def _tree(self, path: str, recursive: bool) -> list[Any]:
        with self._asking():
            try:
                if self._commits:
                    return list(
                        self._api.list_repo_tree(self._id, path or None, recursive=recursive, repo_type=self._type)
                    )
                return list(self._api.list_bucket_tree(self._id, path or None, recursive=recursive))
            except EntryNotFoundError:
                return []

    def read(self, name: str, limit: int = SMALL_BYTES) -> FileVersion | None:
        head = self._head()
        with self._asking():
            info = self._info(name, head)
            if info is None:
                return None
            if info.size > limit:
                raise too_large(self.location, name, info.size, limit)
            content = self._range(name, 0, info.size, head)
        return FileVersion(content, head or digest(content.hex()), _modified(info))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        with self._asking():
            return self._range(name, start, stop, None)

    def swap(self, name: str, content: bytes, tag: str | None) -> bool:
        if not self._commits:
            return self._put_if(name, content, tag)
        add = [CommitOperationAdd(self._prefix + name, content)]
        return self._commit_if(add, f"relope: write {name} of {self.location.name}", name, tag)

    @property
    def commit_all(self) -> CommitAll | None:
        return self._commit_all if self._commits else None

    def _commit_all(self, files: Mapping[str, Path], name: str, tag: str | None, sent: Sent) -> bool:
        adds = [CommitOperationAdd(self._prefix + name, str(path)) for name, path in files.items()]
        if not self._commit_if(adds, f"relope: add {len(adds)} files to {self.location.name}", name, tag):
            return False
        sent(sum(path.stat().st_size for path in files.values()))
        return True

    def upload(self, files: Mapping[str, Path], sent: Sent) -> None:
        with self._asking():
            if self._commits:
                adds = [CommitOperationAdd(self._prefix + name, str(path)) for name, path in files.items()]
                self._commit(adds, f"relope: add {len(adds)} files to {self.location.name}")
            else:
                self._api.batch_bucket_files(self._id, add=[(str(p), self._prefix + n) for n, p in files.items()])
        sent(sum(path.stat().st_size for path in files.values()))

    def delete(self, names: Sequence[str]) -> None:
        paths = [self._prefix + name for name in names]
        with self._asking():
            if self._commits:
                gone = [CommitOperationDelete(path) for path in paths]
                self._commit(gone, f"relope: remove {len(gone)} files of {self.location.name}")
            else:
                self._api.batch_bucket_files(self._id, delete=paths)

    def _commit(self, operations: Sequence[Any], message: str, parent: str | None = None) -> None:
        self._api.create_commit(
            self._id, operations, commit_message=message, repo_type=self._type, parent_commit=parent
        )

    def _commit_if(self, adds: Sequence[Any], message: str, name: str, tag: str | None) -> bool:
        """Commit files onto the very commit that was looked at; start over when there is a newer one."""
        for _ in range(_ATTEMPTS):
            head = self._head()
            with self._asking():
                if tag is None and self._info(name, head) is not None:
                    return False
                if tag is not None and self._blob(name, tag) != self._blob(name, head):
                    return False
                try:
                    self._commit(adds, message, head)
                    return True
                except HfHubHTTPError as error:
                    if error.response is None or error.response.status_code not in (409, 412):
                        raise
        raise OutputError(
            f"others wrote to {self.location.uri} {_ATTEMPTS} times in a row", hint="run the command again"
        )

    def _put_if(self, name: str, content: bytes, tag: str | None) -> bool:
        version = self.read(name)
        if (version.tag if version else None) != tag:
            return False
        with self._asking():
            self._api.batch_bucket_files(self._id, add=[(content, self._prefix + name)])
        version = self.read(name)
        return version is not None and version.content == content

    def _head(self) -> str | None:
        if not self._commits:
            return None
        with self._asking():
            return str(self._api.repo_info(self._id, repo_type=self._type).sha)

    def _info(self, name: str, head: str | None) -> Any:
        path = self._prefix + name
        if self._commits:
            entries = self._api.get_paths_info(self._id, [path], repo_type=self._type, revision=head)
        else:
            entries = self._api.get_bucket_paths_info(self._id, [path])
        return next((entry for entry in entries if entry.path == path and hasattr(entry, "size")), None)

    def _blob(self, name: str, head: str | None) -> str:
        return str(getattr(self._info(name, head), "blob_id", ""))

    def _range(self, name: str, start: int, stop: int, head: str | None) -> bytes:
        # huggingface_hub's paths of models have no first step.
        path = f"{self._id if self._type == 'model' else self.location.root}/{self._prefix}{name}"
        with self._file_system.open(path, "rb", revision=head, cache_type="none") as file:
            file.seek(start)
            content = bytes(file.read(stop - start))
        if len(content) != stop - start:
            raise cut_short(self.location, name, len(content), stop - start)
        return content

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn what huggingface_hub raises into one or two lines."""
        uri = self.location.uri
        try:
            yield
        except RelopeError:
            raise
        except (RepositoryNotFoundError, BucketNotFoundError) as error:
            raise NotFoundError(
                f"there is no {self.location.root} for {uri}, or it is private",
                hint=f"make it on the Hub first, or {_SIGN_IN}",
            ) from error
        except LocalTokenNotFoundError as error:
            raise NotFoundError(f"no credentials for {uri}", hint=_SIGN_IN) from error
        except OfflineModeIsEnabled as error:
            raise OutputError(f"{uri} cannot be reached: HF_HUB_OFFLINE is set", hint="unset it") from error
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise OutputError(f"{uri} refuses these credentials ({status})", hint=_SIGN_IN) from error
            raise OutputError(f"{uri} answers {status}: {_line(error)}", hint="run the command again later") from error
        except _UNREACHABLE as error:
            raise OutputError(f"{uri} cannot be reached: {_line(error)}", hint="check the network") from error


def _modified(entry: Any) -> float:
    written = getattr(entry, "mtime", None) or getattr(getattr(entry, "last_commit", None), "date", None)
    return float(written.timestamp()) if written is not None else 0.0


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160]
