"""A small folder that counts as a whole, such as a bundle: its manifest names every other file with its sha256.

The manifest goes up last and comes down first. Who pulls while another replaces gets files that the manifest does not
name by their digests, and keeps nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relope.errors import NotFoundError, OutputError, StoreError
from relope.partial import partial_folder
from relope.provenance import cannot_write, write_bytes
from relope.store.format.commit import FileRecord
from relope.store.share.remote import Remote, Sent
from relope.store.share.transfer import fetch_to

_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*){0,3}", re.ASCII)
_OF_THE_HUB = frozenset({".gitattributes", "README.md"})
"""What a new repository of the Hub may hold already."""


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
    there = {file.name for file in remote.files("") if not file.name.startswith(".tmp-")}
    strange = sorted(there - files.keys() - {whole.manifest} - _OF_THE_HUB)
    if theirs is None and strange:
        some = ", ".join(strange[:3])
        raise StoreError(
            f"{remote.location.uri} holds other things ({some}), not a {whole.kind}: nothing was written",
            hint=f"give the {whole.kind} a name there, e.g. {remote.location.uri}/{folder.name}",
        )
    if remote.commits:
        remote.upload({**files, whole.manifest: folder / whole.manifest}, sent)
    else:
        remote.upload(files, sent)
        if not remote.swap(whole.manifest, mine, theirs.tag if theirs else None):
            raise OutputError(f"others wrote to {remote.location.uri} meanwhile", hint="run the command again")
    if stale := [name for name in strange if _NAME.fullmatch(name)]:
        remote.delete(stale)
    return True


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
