"""Verbs of stores and of bundles: look, check, change, share."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from relope.fields import Off, Positional, Reads, Spec, StoreRef, Words

URI = "s3://…, gs://…, az://…, hf://datasets/…, hf://buckets/…, file:///… or a folder"


_LICENSE = "licence that the card states, as the Hub spells it, e.g. cc-by-4.0; default: what is stated there already"


class StoreInfoSpec(Spec, step="store info"):
    """Show what a store holds: identity, layers, samples, tokens, bytes, accuracy."""

    store: Annotated[StoreRef, Reads(), Positional()] = Field(description="a store on this machine")


class StoreVerifySpec(Spec, step="store verify"):
    """Check every file of a store against its digests; exit 2 when something is wrong."""

    store: Annotated[StoreRef, Reads(), Positional()] = Field(description="a store on this machine")
    deep: bool = Field(False, description="also recompute every sample's content digest")
    against_model: int | None = Field(None, ge=1, description="run so many samples again and compare their states")


class StoreConvertSpec(Spec, step="store convert"):
    """Write a store anew with another codec, fewer layers or fewer tokens."""

    store: Annotated[StoreRef, Reads(), Positional()] = Field(description="a store on this machine")
    out: Path = Field(description="the new store")
    codec: Literal["none", "zstd"] | None = Field(None, description="how chunks are packed; default: as they are")
    tokens: Literal["lean"] | None = Field(None, description="keep of the deepest layer only the last tokens")
    layers: Words = Field((), description="layers to keep, e.g. 23,24; default: all")
    dtype: Literal["uint16", "bfloat16-metadata"] = Field(
        "uint16", description="what the metadata call bfloat16; zarr-python 3.1 knows uint16 only"
    )


class StorePushSpec(Spec, step="store push"):
    """Share a store: upload what is not there yet. The same command goes on after an interruption."""

    store: Annotated[Path, Reads(), Positional()] = Field(description="a store on this machine")
    uri: Annotated[str, Positional()] = Field(
        description=f"{URI}; hf://datasets/<team>/<repo> for its card to be shown"
    )
    report: Annotated[Path | None, Reads()] = Field(
        None, description="report whose AUCs the card tells; default: <store>.report, where it is there"
    )
    license: str | None = Field(None, description=_LICENSE)


class StorePullSpec(Spec, step="store pull"):
    """Take a shared store, or some of it. The same command goes on after an interruption."""

    uri: Annotated[str, Positional()] = Field(description=URI)
    out: Path | None = Field(None, description="the local store; default runs/<name>")
    layers: Words = Field((), description="only these layers, e.g. 23,24")
    split: Words = Field((), description="only samples of these splits, e.g. test")
    verify: bool = Field(True, description="check the sha256 of every file")


class RouterPushSpec(Spec, step="router push"):
    """Share a router, or a bundle: a router with its threshold and what it promises; with a model card."""

    router: Annotated[Path, Reads(), Positional()] = Field(description="a router or a bundle on this machine")
    uri: Annotated[str, Positional()] = Field(description=f"{URI}; hf://models/<team>/<repo> for its card to be shown")
    replace: bool = Field(False, description="put it in the place of another one there")
    report: Annotated[Path | None, Reads()] = Field(
        None, description="report that says how well the router ranks; default: the one beside its store"
    )
    license: str | None = Field(None, description=_LICENSE)


class RouterPullSpec(Spec, step="router pull"):
    """Take a shared router or bundle; every file of it is checked."""

    uri: Annotated[str, Positional()] = Field(description=f"{URI}; also hf://models/…")
    out: Path | None = Field(None, description="the local folder; default runs/<name>")


class StoreLsSpec(Spec, step="store ls"):
    """Show what is at a URI: the parts of a store, or the stores of a folder."""

    uri: Annotated[str, Positional()] = Field(description=URI)


class StoreMergeSpec(Spec, step="store merge"):
    """Unite stores that were made alike; of a sample that is in several, the first one given counts."""

    stores: Annotated[Words, Reads(), Positional()] = Field(
        description="two or more stores that were made alike: folders or URIs"
    )
    out: Path = Field(description="the store that gets everything")


class StoreGcSpec(Spec, step="store gc"):
    """List what no reader needs: leftovers of dead processes, given-up pushes, replaced catalogs."""

    store: Annotated[StoreRef, Positional()] = Field(description="a store, or a URI")
    delete: Annotated[bool, Off("dry-run")] = Field(False, description="remove it, instead of listing it")
    hours: float = Field(24.0, ge=0, description="unfinished pushes count as given up after so long")
