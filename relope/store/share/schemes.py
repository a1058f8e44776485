"""Which remote serves which scheme."""

import importlib.util

from relope.errors import NotFoundError
from relope.locations import Location
from relope.store.share.remote import Remote


def open_remote(location: Location) -> Remote:
    """Return the remote of a location; nothing is asked of it yet.

    Raises:
        NotFoundError: the scheme needs the extra ``cloud``, which is not installed.
    """
    if location.scheme == "file":
        from relope.store.share.remote_folder import FolderRemote

        return FolderRemote(location)
    if location.scheme == "hf":
        from relope.store.share.remote_hub import HubRemote

        return HubRemote(location)
    if importlib.util.find_spec("obstore") is None:
        raise NotFoundError(
            f"{location.uri} needs the extra `cloud`, which is not installed", hint="pip install 'relope[cloud]'"
        )
    from relope.store.share.remote_objects import ObjectRemote

    return ObjectRemote(location)
