"""Samples that share an image belong together; folds and shares are cut between such groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from relope.types import Sample

N_FOLDS = 5
FOLDS = tuple(f"fold-{number}" for number in range(N_FOLDS))
FOLD_ALIASES = {"test": FOLDS[:1], "train": FOLDS[1:]}
"""Without another wish the first fold is tested on and the others are learned from."""

TRAIN_SHARE = 0.8


def connected(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples with their groups set: connected components over shared images.

    A group is named by its smallest digest; a sample without images is a group of its own id.
    """
    parent: dict[str, str] = {}

    def root(digest: str) -> str:
        while parent.setdefault(digest, digest) != digest:
            parent[digest] = parent[parent[digest]]
            digest = parent[digest]
        return digest

    for sample in samples:
        roots = sorted(root(image.digest) for image in sample.images)
        for other in roots[1:]:
            parent[other] = roots[0]
    return [replace(sample, group=root(sample.images[0].digest) if sample.images else sample.id) for sample in samples]


def in_folds(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples whose split is their fold, a function of their group's name alone."""
    return [replace(sample, split=FOLDS[int(_share(sample.group) * N_FOLDS)]) for sample in connected(samples)]


def in_shares(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples split into train and test, a function of their group's name alone.

    Where that leaves one of the two empty, which happens to a few groups, the group that is nearest to it goes there.
    """
    grouped = connected(samples)
    shares = {sample.group: _share(sample.group) for sample in grouped}
    tested = {group for group, share in shares.items() if share >= TRAIN_SHARE}
    if len(shares) > 1 and not tested:
        tested = {max(shares, key=shares.__getitem__)}
    elif len(shares) > 1 and len(tested) == len(shares):
        tested.remove(min(shares, key=shares.__getitem__))
    return [replace(sample, split="test" if sample.group in tested else "train") for sample in grouped]


def _share(group: str) -> float:
    """Return a number in [0, 1) that is evenly spread over groups."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:6], "big") / 2**48
