"""Assaults on a store, its routers, scores and grades: one change to one file, then the commands that read it."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from made_stores import reseal, tree_bytes
from typer.testing import CliRunner

from relope.cli import app
from relope.provenance import file_digest, pretty
from relope.seals import SEAL, sealed_frame, sealed_json

HANG_S = 10
GROWTH_BYTES = 1 << 30
MOST_LINES = 2
ROUTERS = ("probe", "relope", "question-kind")
VALUES: tuple[Any, ...] = (
    None, "", "²", "../../outside", -1, 0, 10**9, 1e308, float("nan"), True, [], {}, [[]] * 3, {"a": {}}, "x" * 10_000,
    2**70,
)  # fmt: skip


@dataclass
class World:
    """What is attacked, and what its commands give when nothing is wrong.

    Attributes:
        root: folder of everything that may be read and written.
        outside: what no command may touch.
        sound: command → what it gave.
    """

    root: Path
    outside: Path
    sound: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.root / "x.zarr"

    def files(self) -> list[Path]:
        """Return every file of the store, its routers and its scores."""
        folders = (self.store, self.root / "routers", self.root / "scores")
        return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]


def make_world(root: Path) -> World:
    """Extract, grade, fit and predict; keep what the commands give."""
    world = World(root / "world", root / "outside")
    world.root.mkdir()
    world.outside.mkdir()
    (world.outside / "secret.txt").write_text("nobody reads me")
    for split, limit in (("train", 40), ("test", 12)):
        run(world, ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--split", split, "--limit", str(limit),
                    "--out", str(world.store), "--device", "cpu"])  # fmt: skip
    fits = {"probe": ["head=logistic"], "relope": ["epochs=1"], "question-kind": []}
    for method, settings in fits.items():
        sets = [word for text in settings for word in ("--set", text)]
        run(world, ["fit", method, "--store", str(world.store), "--out", str(world.root / "routers" / method), *sets])
    run(world, predict(world, "probe", world.root / "scores" / "probe.parquet"))
    for name in ("fit", *(f"predict {router}" for router in ROUTERS), "info", "evaluate"):
        world.sound[name] = outcome(world, name)
        assert world.sound[name][0] == 0, world.sound[name]
    return world


def run(world: World, words: Sequence[str]) -> None:
    """Run a command that must succeed."""
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output


def predict(world: World, router: str, out: Path) -> list[str]:
    """Return the command that scores the test split with a router."""
    folder = world.root / "routers" / router
    return ["predict", "--router", str(folder), "--store", str(world.store), "--out", str(out), "--device", "cpu"]


class HangError(Exception):
    """A command took too long."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """End what takes longer than it may."""

    def ring(number: int, frame: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def peak_bytes() -> int:
    """Return the most memory that was resident since the mark was last set back."""
    words = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()
    return int(words[0]) << 10


def forget_peak() -> int:
    """Set the mark back; return what is resident now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def outcome(world: World, name: str) -> tuple[int, Any, str]:
    """Run a command; return its exit code, what it made, and what it said of an error."""
    out = world.root / "made"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    store = str(world.store)
    words = {
        "fit": ["fit", "probe", "--store", store, "--out", str(out / "probe"), "--set", "head=logistic"],
        "info": ["store", "info", store, "--json"],
        "verify": ["store", "verify", store],
        "evaluate": ["evaluate", "--store", store, "--scores", str(world.root / "scores"), "--out", str(out / "report"),
                     "--bootstrap", "100"],
    }  # fmt: skip
    router = name.partition(" ")[2]
    with watched():
        done = CliRunner().invoke(app, words.get(name) or predict(world, router, out / "s.parquet"))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    made: Any = None
    if done.exit_code == 0:
        made = {
            "fit": lambda: (out / "probe" / "probe.safetensors").read_bytes(),
            "info": lambda: {
                key: json.loads(done.stdout)[key] for key in ("recipe_id", "content_id", "accuracy", "samples")
            },
            "evaluate": lambda: _figures(out / "report" / "report.json"),
        }.get(name, lambda: pl.read_parquet(out / "s.parquet").select("id", "score").rows() if router else None)()
    return done.exit_code, made, done.stderr


def _figures(report: Path) -> list[dict[str, Any]]:
    """Return the rows of a report without what is told of its runs: command lines, and seconds, which differ by run."""
    rows = json.loads(report.read_text())["methods"]
    return [{key: value for key, value in row.items() if "second" not in key and key != "commands"} for row in rows]


def commands_for(world: World, path: Path, seed: int) -> list[str]:
    """Return the commands that read a file, of those that are worth their time."""
    name = path.relative_to(world.root).as_posix()
    if name.startswith("routers/"):
        return [f"predict {name.split('/')[1]}"]
    if name.startswith("scores/"):
        return ["evaluate"]
    if "/block_" in name:
        return ["predict relope"]
    return [
        "fit" if seed % 3 == 0 or "grades" in name else f"predict {ROUTERS[seed % 2]}",
        *(["info"] if seed % 4 == 0 else []),
    ]


Change = Callable[[Path, np.random.Generator, World], None]


def flip_bit(path: Path, rng: np.random.Generator, world: World) -> None:
    content = bytearray(path.read_bytes())
    bit = int(rng.integers(8 * len(content))) if content else 0
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def cut(path: Path, rng: np.random.Generator, world: World) -> None:
    os.truncate(path, int(rng.integers(path.stat().st_size + 1)) if rng.random() < 0.7 else 0)


def overwrite(path: Path, rng: np.random.Generator, world: World) -> None:
    content = bytearray(path.read_bytes())
    start = int(rng.integers(len(content) + 1))
    content[start : start + 64] = rng.bytes(int(rng.integers(1, 200)))
    path.write_bytes(content)


def remove(path: Path, rng: np.random.Generator, world: World) -> None:
    path.unlink()


def folder(path: Path, rng: np.random.Generator, world: World) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, rng: np.random.Generator, world: World) -> None:
    path.unlink()
    os.mkfifo(path)


def link_outside(path: Path, rng: np.random.Generator, world: World) -> None:
    shutil.copy(path, world.outside / "target")
    path.unlink()
    path.symlink_to(world.outside / "target")


def link_in_a_ring(path: Path, rng: np.random.Generator, world: World) -> None:
    path.unlink()
    path.symlink_to(path.name)


def link_to_a_device(path: Path, rng: np.random.Generator, world: World) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def exchange(path: Path, rng: np.random.Generator, world: World) -> None:
    """Put another file of the same kind in the place of one."""
    others = [other for other in world.files() if other.suffix == path.suffix and other != path]
    if others:
        shutil.copy(others[int(rng.integers(len(others)))], path)


def deep_json(path: Path, rng: np.random.Generator, world: World) -> None:
    path.write_text("[" * 100_000 if rng.random() < 0.5 else '{"a":' * 50_000)


def _leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs)[:40]:
        yield from _leaves(item, (*place, key))


def edit_json(path: Path, rng: np.random.Generator, world: World) -> None:
    """Change one value of a JSON file, and make every digest anew that would tell."""
    value = json.loads(path.read_text())
    places = list(_leaves(value))[1:]
    if places:
        *way, last = places[int(rng.integers(len(places)))]
        inner = value
        for key in way:
            inner = inner[key]
        if rng.random() < 0.3:
            del inner[last]
        else:
            inner[last] = VALUES[int(rng.integers(len(VALUES)))]
    _write_json(path, value)
    _reseal(path, world)


def _write_json(path: Path, value: Any) -> None:
    attributes = value.get("attributes") if isinstance(value, dict) else None
    fields = attributes.get("relope") if isinstance(attributes, dict) else None
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        if isinstance(fields, dict) and SEAL in fields:
            value["attributes"]["relope"] = json.loads(sealed_json({k: v for k, v in fields.items() if k != SEAL}))
        elif isinstance(value, dict) and isinstance(value.get(SEAL), str):
            path.write_bytes(sealed_json({k: v for k, v in value.items() if k != SEAL}))
            return
    path.write_bytes(pretty(value))


def edit_table(path: Path, rng: np.random.Generator, world: World) -> None:
    """Change a column of a Parquet file, and make every digest anew that would tell."""
    frame, metadata = pl.read_parquet(path), {k: v for k, v in pl.read_parquet_metadata(path).items() if k == "relope"}
    name = frame.columns[int(rng.integers(len(frame.columns)))]
    changes = [
        lambda: frame.drop(name),
        lambda: frame.with_columns(pl.lit(None).alias(name)),
        lambda: frame.with_columns(pl.lit(0.5).alias(name)),
        lambda: frame.with_columns(pl.lit("text").alias(name)),
        lambda: frame.with_columns(pl.lit(10**12).alias(name)),
        lambda: frame.head(0),
        lambda: pl.concat([frame, frame]),
        lambda: frame.with_columns(pl.Series(name, [[1, 2]] * len(frame))),
    ]
    path.write_bytes(sealed_frame(changes[int(rng.integers(len(changes)))](), metadata))
    _reseal(path, world)


def _reseal(path: Path, world: World) -> None:
    """Make the COMMIT.json or router.json that names a file agree with it, as an attacker would."""
    for parent in path.parents:
        if parent.parent.name == "parts" and path.name != "COMMIT.json":
            reseal(parent)
        elif parent.name.startswith("block_") and path.name != "COMMIT.json":
            records = {
                p.name: {"bytes": p.stat().st_size, "sha256": file_digest(p)}
                for p in parent.iterdir()
                if p.name != "COMMIT.json"
            }
            (parent / "COMMIT.json").write_bytes(pretty({"files": records}))
        elif parent.parent.name == "routers" and path.name != "router.json":
            record = json.loads((parent / "router.json").read_text())
            record["files"] = {
                n: {"bytes": (parent / n).stat().st_size, "sha256": file_digest(parent / n)} for n in record["files"]
            }
            (parent / "router.json").write_bytes(sealed_json({k: v for k, v in record.items() if k != SEAL}))


CHANGES: dict[str, tuple[Change, ...]] = {
    "any": (flip_bit, cut, overwrite, remove, folder, pipe, link_outside, link_in_a_ring, link_to_a_device, exchange),
    ".json": (edit_json, edit_json, edit_json, edit_json, edit_json, edit_json, edit_json, edit_json, deep_json),
    ".parquet": (edit_table,) * 8,
}


def assault(world: World, seed: int) -> str:
    """Change one file by a seed and run what reads it; return what went wrong, or ``""``."""
    rng = np.random.default_rng([11, seed])
    files = world.files()
    weights = np.array([1.0 if path.suffix in (".json", ".parquet", ".safetensors") else 0.3 for path in files])
    path = files[int(rng.choice(len(files), p=weights / weights.sum()))]
    kinds = (*CHANGES["any"], *CHANGES.get(path.suffix, ()))
    change = kinds[int(rng.integers(len(kinds)))]
    return assaulted(world, path, change, rng, commands_for(world, path, seed))


def assaulted(world: World, path: Path, change: Change, rng: np.random.Generator, commands: Sequence[str]) -> str:
    """Make one change, run commands, take the change back; return what went wrong, or ``""``."""
    kept, label = (
        {name: name.read_bytes() for name in world.files()},
        f"{change.__name__} {path.relative_to(world.root)}",
    )
    outside = tree_bytes(world.outside)
    try:
        change(path, rng, world)
        if change is link_outside:
            outside = tree_bytes(world.outside)
        wrongs = [f"{label}: {name}: {wrong}" for name in commands if (wrong := _judged(world, name))]
        if tree_bytes(world.outside) != outside:
            wrongs.append(f"{label}: something outside was touched")
        return "; ".join(wrongs)
    finally:
        _restore(world, kept)


def _judged(world: World, name: str) -> str:
    """Run a command; return what is wrong with how it ended, or ``""``."""
    before = forget_peak()
    try:
        code, made, said = outcome(world, name)
    except HangError:
        return f"hung for {HANG_S} s"
    except Exception as error:  # noqa: BLE001 what a user would see as a traceback
        return f"traceback {type(error).__name__}: {str(error)[:200]}"
    if (grown := peak_bytes() - before) > GROWTH_BYTES:
        return f"took {grown >> 20} MiB"
    if code == 0:
        return "" if made == world.sound[name][1] else "another result, and nothing said"
    if code != 2:
        return f"exit code {code}"
    lines = [line for line in said.strip().splitlines() if line]
    return "" if len(lines) <= MOST_LINES else f"{len(lines)} lines: {said[:300]!r}"


def _restore(world: World, kept: dict[Path, bytes]) -> None:
    for path in world.files():
        if path not in kept:
            path.unlink()
    for path, content in kept.items():
        if path.is_symlink() or path.is_fifo():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    for left in world.outside.iterdir():
        if left.name != "secret.txt":
            left.unlink()
