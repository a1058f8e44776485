"""Assaults by seed: refused in a line or two with exit code 2, or provably harmless; `just attack` makes more."""

import os

import numpy as np
from assault import World, assault, assaulted, commands_for, flip_bit, outcome

from relope.store import verify

MUTATIONS = int(os.environ.get("RELOPE_ATTACK_MUTATIONS", "300"))
FLIPS = int(os.environ.get("RELOPE_ATTACK_FLIPS", "200"))
START = int(os.environ.get("RELOPE_ATTACK_START", "0"))
SHOWN = 40


def test_seeded_mutations(world: World) -> None:
    wrong = [f"seed {seed}: {found}" for seed in range(START, START + MUTATIONS) if (found := assault(world, seed))]
    assert not wrong, f"{len(wrong)} of {MUTATIONS}\n" + "\n".join(wrong[:SHOWN])
    assert outcome(world, "fit")[:2] == world.sound["fit"][:2], "the world is as it was"


def test_flipped_bits_over_all_files(world: World) -> None:
    """Verify names every flip in a store; of routers and scores the commands that read them do, or nothing changes."""
    rng, wrong, files = np.random.default_rng(START + 12), [], world.files()
    for turn in range(FLIPS):
        path = files[turn % len(files)]
        if world.store in path.parents:
            content = path.read_bytes()
            flip_bit(path, rng, world)
            if not verify(world.store):
                wrong.append(f"verify missed a flip in {path.relative_to(world.root)}")
            if turn % 5:
                path.write_bytes(content)
                continue
            path.write_bytes(content)
        if found := assaulted(world, path, flip_bit, rng, commands_for(world, path, turn)[:1]):
            wrong.append(found)
    assert not wrong, f"{len(wrong)} of {FLIPS}\n" + "\n".join(wrong[:SHOWN])
    assert verify(world.store, deep=True) == []
