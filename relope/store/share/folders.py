"""A small folder that counts as a whole, such as a bundle: its manifest names every other file with its sha256.

The manifest goes up last and comes down first. Who pulls while another replaces gets files that the manifest does not
name by their digests, and keeps nothing. Who pushes claims the place first, by a small file made only where none is, so
that files of two origins never mix; a commit of the Hub needs none.
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relope.errors import NotFoundError, OutputError, StoreError
from relope.partial import partial_folder
from relope.provenance import cannot_write, write_bytes
from relope.store.format.commit import FileRecord
from relope.store.format.layout import LOCK
from relope.store.share.remote import FileVersion, Remote, Sent
from relope.store.share.transfer import fetch_to

_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*){0,3}", re.ASCII)
_OF_THE_HUB = frozenset({".gitattributes", "README.md"})
"""What a new repository of the Hub may hold already."""

_GIVEN_UP_S = 24 * 3600.0
"""An unfinished push of so long ago is over; `relope store gc` takes the same time."""


@dataclass(frozen=True)
class Whole:
    """What makes a folder one thing.

    Attributes:
        kind: what messages call it.
        manifest: name of the file that names all others.
        most_bytes: of that file.
    """

    kind: str
    manifest: str
    most_bytes: int


def push_folder(
    remote: Remote, whole: Whole, folder: Path, files: Mapping[str, Path], replace: bool, sent: Sent
) -> bool:
    """Share a folder; False where the very same is there already.

    Args:
        remote: where to.
        whole: what it is.
        folder: it, checked; with its manifest in it.
        files: name → where it is, of its other files.
        replace: whether another one there may be overwritten.
        sent: told the bytes.

    Raises:
        StoreError: another one is there, or other things are.
        OutputError: others write there at the same time.
    """
    mine, theirs = (folder / whole.manifest).read_bytes(), remote.read(whole.manifest, whole.most_bytes)
    if theirs is not None and theirs.content == mine:
        return False
    if theirs is not None and not replace:
        raise StoreError(
            f"{remote.location.uri} holds another {whole.kind}: nothing was written",
            hint="--replace puts yours in its place, or push to another URI",
        )
    there = {file.name for file in remote.files("") if not file.name.startswith(".tmp-")} - {LOCK}
    strange = sorted(there - files.keys() - {whole.manifest} - _OF_THE_HUB)
    if theirs is None and strange:
        some = ", ".join(strange[:3])
        raise StoreError(
            f"{remote.location.uri} holds other things ({some}), not a {whole.kind}: nothing was written",
            hint=f"give the {whole.kind} a name there, e.g. {remote.location.uri}/{folder.name}",
        )
    tag, stale = theirs.tag if theirs else None, [name for name in strange if _NAME.fullmatch(name)]
    if remote.commit_all is not None:
        written = remote.commit_all({**files, whole.manifest: folder / whole.manifest}, whole.manifest, tag, sent)
        if written and stale:
            remote.delete(stale)
    else:
        written = _write_claimed(remote, whole, files, mine, tag, stale, sent)
    if not written:
        raise OutputError(f"others wrote to {remote.location.uri} meanwhile", hint="run the command again")
    return True


def _write_claimed(
    remote: Remote,
    whole: Whole,
    files: Mapping[str, Path],
    manifest: bytes,
    tag: str | None,
    stale: Sequence[str],
    sent: Sent,
) -> bool:
    """Write files, then the manifest, while the place is ours; False where somebody else's manifest came first."""
    claim = hashlib.sha256(manifest).hexdigest().encode()
    _claim(remote, whole, claim)
    try:
        if not _is_version(remote.read(whole.manifest, whole.most_bytes), tag):
            return False
        remote.upload(files, sent)
        held = remote.read(LOCK)
        if held is None or held.content != claim or not remote.swap(whole.manifest, manifest, tag):
            return False
        if stale:
            remote.delete(stale)
        return True
    finally:
        if (held := remote.read(LOCK)) is not None and held.content == claim:
            remote.delete([LOCK])


def _is_version(version: FileVersion | None, tag: str | None) -> bool:
    return (version.tag if version else None) == tag


def _claim(remote: Remote, whole: Whole, mine: bytes) -> None:
    """Claim a place, or find our claim of a push that was interrupted.

    Raises:
        OutputError: somebody else has it.
    """
    while not remote.swap(LOCK, mine, None):
        held = remote.read(LOCK)
        if held is None:
            continue  # given back a moment ago
        is_over = 0 < held.modified < time.time() - _GIVEN_UP_S
        if held.content == mine or (is_over and remote.swap(LOCK, mine, held.tag)):
            return
        raise OutputError(
            f"somebody is pushing another {whole.kind} to {remote.location.uri}",
            hint="try again when they have finished; a push that was given up stands in the way for a day",
        )


def pull_folder(
    remote: Remote, whole: Whole, out: Path, named: Callable[[Path], Mapping[str, str]], check: Callable[[Path], object]
) -> None:
    """Take a shared folder, whole or not at all.

    Args:
        remote: where from.
        whole: what it is.
        out: the folder that it becomes, which is not there yet.
        named: reads a manifest in a folder: name → sha256 of every other file.
        check: refuses a folder that is not whole.

    Raises:
        NotFoundError: there is none.
        StoreError: a file is missing, damaged, or has a name that leads elsewhere.
        OutputError: the system refuses to write.
    """
    version = remote.read(whole.manifest, whole.most_bytes)
    if version is None:
        raise NotFoundError(
            f"there is no {whole.kind} at {remote.location.uri}",
            hint=f"mend the address, or push the {whole.kind} there",
        )
    sizes = {file.name: file.n_bytes for file in remote.files("")}
    try:
        with partial_folder(out) as partial:
            write_bytes(partial / whole.manifest, version.content)
            for name, digest in named(partial).items():
                if not _NAME.fullmatch(name) or name == whole.manifest:
                    raise StoreError(f"the {whole.kind} at {remote.location.uri} names a file {name!r}, which none has")
                if name not in sizes:
                    raise StoreError(f"the {whole.kind} at {remote.location.uri} lacks {name}", hint="push it again")
                fetch_to(remote, name, FileRecord(sizes[name], digest), partial / name)
            check(partial)
            partial.rename(out)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise cannot_write(out, error) from error
