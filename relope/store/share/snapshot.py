"""What can be known of a remote store without its arrays, fetched into a temporary folder.

The readers of local stores, with all their checks, then do the rest.
"""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from relope.errors import NotFoundError, RelopeError, StoreError
from relope.locations import Location, parse_uri
from relope.provenance import digest
from relope.store.format.catalog import Catalog, newest_catalog, parts_content_id
from relope.store.format.commit import Commit, FileRecord, read_commit
from relope.store.format.layout import COMMIT, META, SAMPLES, part_folder, writing
from relope.store.format.manifest import StoreManifest, read_manifest
from relope.store.format.samples import read_samples
from relope.store.share.remote import SMALL_BYTES, Remote, RemoteFile
from relope.store.share.schemes import open_remote
from relope.store.share.threads import in_threads

_COMMIT_BYTES = 16 << 20
_CATALOG = re.compile(r"catalog/([1-9][0-9]{0,8})\.json")
_PART = re.compile(r"parts/([0-9a-f]{32})/(.+)")
_SHOWN = 8


class RemoteSnapshot:
    """A remote store beside a temporary folder that holds its small files.

    Attributes:
        remote: where the store is.
        folder: the temporary folder; a store without arrays.
        catalog: the newest catalog, as of `refresh`.
        files: part id → name below the part → file, as of `refresh`.
    """

    def __init__(self, remote: Remote, folder: Path) -> None:
        self.remote, self.folder = remote, folder
        self.catalog = Catalog(0, (), "")
        self.files: dict[str, dict[str, RemoteFile]] = {}
        self._manifest: StoreManifest | None = None

    @property
    def uri(self) -> str:
        """The store's URI."""
        return self.remote.location.uri

    @property
    def manifest(self) -> StoreManifest:
        """What the store is.

        Raises:
            NotFoundError: there is no store; what is there is named.
        """
        manifest = self._manifest or self.open()
        if manifest is None:
            raise no_store(self.remote)
        return manifest

    def open(self) -> StoreManifest | None:
        """Fetch the manifest; None when there is no store."""
        if not self._fetch(META, _COMMIT_BYTES):
            return None
        with self.named():
            self._manifest = read_manifest(self.folder)
        return self._manifest

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

    def newest_catalog(self) -> Catalog | None:
        """Fetch the newest catalog; None where there is none."""
        numbers = [int(match[1]) for file in self.remote.files("catalog") if (match := _CATALOG.fullmatch(file.name))]
        if not numbers:
            return None
        self._fetch(f"catalog/{max(numbers)}.json")
        with self.named():
            return newest_catalog(self.folder)

    def _refresh(self) -> None:
        newest, self.files = self.newest_catalog(), {}
        for file in self.remote.files("parts"):
            if match := _PART.fullmatch(file.name):
                self.files.setdefault(match[1], {})[match[2]] = file
        if newest is None:
            self.catalog = Catalog(0, tuple(self.sealed()), "")
            return
        self.catalog = newest
        for part in self.catalog.parts:
            if part not in self.sealed():
                raise StoreError(
                    f"part {part} of catalog/{self.catalog.number}.json is not at {self.uri}", hint="push it again"
                )

    def sealed(self) -> list[str]:
        """Return the ids of the parts that are complete at the remote, sorted."""
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
            raise StoreError(f"part {part} is gone from {self.uri}", hint="run the command again")

    def fetch_file(self, part: str, name: str, record: FileRecord) -> None:
        """Fetch one small file of a part and hold it against its record."""
        version = self.remote.read(f"parts/{part}/{name}", min(record.n_bytes, SMALL_BYTES))
        if version is None:
            raise StoreError(f"{name} of part {part} is missing at {self.uri}")
        if hashlib.sha256(version.content).hexdigest() != record.sha256:
            raise StoreError(f"{name} of part {part} at {self.uri} is not what was pushed: its sha256 differs")
        self._keep(part_folder(self.folder, part) / name, version.content)

    def commit(self, part: str) -> Commit:
        """Return the commit of a part whose samples were fetched."""
        with self.named():
            return read_commit(self.folder, part)

    def samples(self, part: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the samples of a part, which were fetched."""
        with self.named():
            return read_samples(self.folder, part, columns)

    def _check_content(self) -> None:
        with self.named():
            root = parts_content_id(self.folder, self.catalog.parts)
        if self.catalog.number and root != self.catalog.content_id:
            raise StoreError(f"catalog/{self.catalog.number}.json at {self.uri} does not agree with its parts' samples")

    def _fetch(self, name: str, limit: int = SMALL_BYTES) -> bool:
        version = self.remote.read(name, limit)
        if version is None:
            return False
        self._keep(self.folder / name, version.content)
        return True

    def _keep(self, path: Path, content: bytes) -> None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Let the readers of local stores, inside the block, speak of the URI where they name the temporary folder.

        Every call that gives them `folder` stands in such a block: nobody else knows what it stands for.
        """
        try:
            yield
        except RelopeError as error:
            folder = str(self.folder)
            said, hint = (text.replace(folder, self.uri) for text in (str(error), error.hint))
            raise type(error)(said, hint=hint) from error


@contextlib.contextmanager
def snapshot_of(remote: Remote) -> Iterator[RemoteSnapshot]:
    """Give a snapshot whose folder is gone after the block; nothing is fetched yet."""
    folder = Path(tempfile.mkdtemp(prefix="relope-"))
    try:
        yield RemoteSnapshot(remote, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remote_ids(uri: str) -> tuple[str, str]:
    """Return recipe and content of the store at a URI; only its manifest and its newest catalog are fetched.

    Raises:
        NotFoundError: there is no store.
        StoreError: what is there is damaged.
    """
    with snapshot_of(open_remote(parse_uri(uri))) as snapshot:
        recipe_id, catalog = snapshot.manifest.recipe_id, snapshot.newest_catalog()
        if catalog is None:  # nothing is published yet
            snapshot.refresh()
            return recipe_id, digest(list(snapshot.catalog.parts))
        return recipe_id, catalog.content_id


def stores_below(remote: Remote) -> list[Location]:
    """Return the stores right below a location."""
    locations = [remote.location.below(name) for name in remote.folders()]
    documents = in_threads(lambda location: open_remote(location).read(META, _COMMIT_BYTES), locations)
    return [
        location
        for location, document in zip(locations, documents, strict=True)
        if document and _is_ours(document.content)
    ]


def _is_ours(document: bytes) -> bool:
    try:
        return "relope" in json.loads(document)["attributes"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def no_store(remote: Remote) -> NotFoundError:
    """Build the error for a URI without a store."""
    names = [location.name for location in stores_below(remote)]
    known = f"; below it: {', '.join(names[:_SHOWN])}" if names else ""
    above = remote.location.above
    shows = f"`relope store ls {above}` shows what is there" if above else "check its address"
    return NotFoundError(
        f"there is no store at {remote.location.uri}{known}", hint=f"{shows}, `relope store push` shares a store"
    )
