"""What can be known of a remote store without its arrays, fetched into a temporary folder.

The readers of local stores, with all their checks, then do the rest.
"""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from relope.errors import NotFoundError, RelopeError, StoreError
from relope.places import MIRRORS, Place, shown
from relope.store.format.catalog import Catalog, newest_catalog, parts_content_id
from relope.store.format.commit import Commit, FileRecord, read_commit
from relope.store.format.layout import COMMIT, META, SAMPLES, part_folder, writing
from relope.store.format.manifest import StoreManifest, read_manifest
from relope.store.share.remote import SMALL_BYTES, Remote, RemoteFile, open_remote

N_THREADS = 8
_COMMIT_BYTES = 16 << 20
_CATALOG = re.compile(r"catalog/([1-9][0-9]{0,8})\.json")
_PART = re.compile(r"parts/([0-9a-f]{32})/(.+)")
T = TypeVar("T")
R = TypeVar("R")


class Mirror:
    """A remote store beside a folder that holds its small files.

    Attributes:
        remote: where the store is.
        folder: the temporary folder; a store without arrays.
        catalog: the newest catalog, as of `refresh`.
        manifest: the store's manifest, once fetched.
    """

    def __init__(self, remote: Remote, folder: Path) -> None:
        self.remote, self.folder = remote, folder
        MIRRORS[str(folder)] = remote.place.uri
        self.catalog = Catalog(0, (), "")
        self.files: dict[str, dict[str, RemoteFile]] = {}
        self._manifest: StoreManifest | None = None

    @property
    def uri(self) -> str:
        """The store's URI."""
        return self.remote.place.uri

    @property
    def manifest(self) -> StoreManifest:
        """What the store is.

        Raises:
            NotFoundError: there is no store; what is there is named.
        """
        if self._manifest is None and not self.open():
            raise nothing_there(self.remote)
        assert self._manifest is not None
        return self._manifest

    def open(self) -> bool:
        """Fetch the manifest; return whether there is a store."""
        if not self._fetch(META, _COMMIT_BYTES):
            return False
        with self.named():
            self._manifest = read_manifest(self.folder)
        return True

    def refresh(self, *, samples: bool = False) -> None:
        """Fetch the newest catalog, and which files the parts have.

        Args:
            samples: also fetch the samples of its parts, and hold the catalog against them.

        Raises:
            StoreError: it names a part that is not there, or something was changed after it was pushed.
        """
        self._refresh()
        if samples:
            self.fetch_samples(self.catalog.parts)
            self._check_content()

    def _refresh(self) -> None:
        numbers = [int(match[1]) for file in self.remote.files("catalog") if (match := _CATALOG.fullmatch(file.name))]
        self.files = {}
        for file in self.remote.files("parts"):
            if match := _PART.fullmatch(file.name):
                self.files.setdefault(match[1], {})[match[2]] = file
        if not numbers:
            self.catalog = Catalog(0, tuple(self.sealed()), "")
            return
        self._fetch(f"catalog/{max(numbers)}.json")
        with self.named():
            self.catalog = newest_catalog(self.folder)
        for part in self.catalog.parts:
            if part not in self.sealed():
                raise StoreError(
                    f"part {part} of catalog/{self.catalog.number}.json is not at {self.uri}\npush it again"
                )

    def sealed(self) -> list[str]:
        """Return the ids of the parts that are complete there, sorted."""
        return sorted(part for part, files in self.files.items() if COMMIT in files)

    def unsealed(self) -> list[str]:
        """Return the ids of the parts that somebody began to push, sorted."""
        return sorted(part for part, files in self.files.items() if COMMIT not in files)

    def fetch_commits(self, parts: Iterable[str]) -> None:
        """Fetch the commits of parts, unless they are here."""
        in_threads(self._fetch_commit, [part for part in parts if not self._has(part, COMMIT)])

    def fetch_samples(self, parts: Sequence[str]) -> None:
        """Fetch commit and samples of parts, unless they are here; the samples' sha256 is checked."""
        self.fetch_commits(parts)
        missing = [part for part in parts if not self._has(part, SAMPLES)]
        in_threads(lambda part: self.fetch_file(part, SAMPLES, self.commit(part).files[SAMPLES]), missing)

    def _has(self, part: str, name: str) -> bool:
        return (part_folder(self.folder, part) / name).exists()

    def _fetch_commit(self, part: str) -> None:
        if not self._fetch(f"parts/{part}/{COMMIT}", _COMMIT_BYTES):
            raise StoreError(f"part {part} is gone from {self.uri}; run the command again")

    def fetch_file(self, part: str, name: str, record: FileRecord) -> None:
        """Fetch one small file of a part and hold it against its record."""
        path = part_folder(self.folder, part) / name
        found = self.remote.read(f"parts/{part}/{name}", min(record.n_bytes, SMALL_BYTES))
        if found is None:
            raise StoreError(f"{name} of part {part} is missing at {self.uri}")
        if hashlib.sha256(found.content).hexdigest() != record.sha256:
            raise StoreError(f"{name} of part {part} at {self.uri} is not what was pushed: its sha256 differs")
        self._keep(path, found.content)

    def commit(self, part: str) -> Commit:
        """Return the commit of a part whose samples were fetched."""
        with self.named():
            return read_commit(self.folder, part)

    def _check_content(self) -> None:
        with self.named():
            root = parts_content_id(self.folder, self.catalog.parts)
        if self.catalog.number and root != self.catalog.content_id:
            raise StoreError(f"catalog/{self.catalog.number}.json at {self.uri} does not agree with its parts' samples")

    def _fetch(self, name: str, limit: int = SMALL_BYTES) -> bool:
        found = self.remote.read(name, limit)
        if found is None:
            return False
        self._keep(self.folder / name, found.content)
        return True

    def _keep(self, path: Path, content: bytes) -> None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Let errors about the temporary folder speak of the URI."""
        try:
            yield
        except RelopeError as error:
            raise type(error)(shown(str(error)), hint=shown(error.hint)) from error


@contextlib.contextmanager
def mirrored(remote: Remote) -> Iterator[Mirror]:
    """Give a mirror whose folder is gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="relope-"))
    try:
        yield Mirror(remote, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stores_below(remote: Remote) -> list[Place]:
    """Return the stores right below a place."""
    places = [remote.place.below(name) for name in remote.folders()]
    found = in_threads(lambda place: open_remote(place).read(META, _COMMIT_BYTES), places)
    return [place for place, meta in zip(places, found, strict=True) if meta and _is_ours(meta.content)]


def _is_ours(meta: bytes) -> bool:
    try:
        return "relope" in json.loads(meta)["attributes"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def nothing_there(remote: Remote) -> NotFoundError:
    """Build the error for a URI without a store."""
    names = [place.name for place in stores_below(remote)]
    known = f"; below it: {', '.join(names[:8])}" if names else ""
    return NotFoundError(
        f"there is no store at {remote.place.uri}{known}\n"
        "`relope store ls` shows what is there, `relope store push` shares a store"
    )


def in_threads(work: Callable[[T], R], items: Sequence[T], halt: Callable[[], None] | None = None) -> list[R]:
    """Return the results of some requests made side by side, in order; the first error ends all.

    Args:
        work: makes one request.
        items: what to make them of.
        halt: called on an error or Ctrl-C, to let requests that are under way end early.
    """
    with ThreadPoolExecutor(N_THREADS) as pool:
        try:
            futures = [pool.submit(work, item) for item in items]
            for done in wait(futures, return_when=FIRST_EXCEPTION).done:
                done.result()
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            if halt:
                halt()
            raise
