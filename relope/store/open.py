"""One way to open a store: a folder of this machine, or the URI of one that is read where it is."""

from pathlib import Path

from relope.locations import local_folder
from relope.store.reader import ActivationStore
from relope.store.share.remote_reader import RemoteStore


def open_store(ref: Path | str, *, verify: bool = True, keep_rows: bool = False) -> ActivationStore:
    """Open a store, also one whose run was interrupted: its sealed parts then count.

    Args:
        ref: the store's folder, or a URI: of a remote store only what is asked for is fetched.
        verify: check the CRC of each chunk when it is first touched.
        keep_rows: read `last` of a layer and `answer` of all samples once and keep them, for who asks again and
            again; ``[N, H]`` float32 each.

    Raises:
        NotFoundError: no store is there, or no bucket or credentials.
        StoreError: it is no store, or is damaged or was tampered with.
    """
    folder = local_folder(ref)
    if folder is None:
        return RemoteStore.open_uri(str(ref), verify=verify, keep_rows=keep_rows)
    return ActivationStore.open(folder, verify=verify, keep_rows=keep_rows)
