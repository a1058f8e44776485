"""E2: two fits into one router folder never mix their files."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from relope.errors import StoreError
from relope.probes.files import save_state
from relope.probes.router import RouterRecord, load_router, read_record, write_router

ROUNDS = 20
fork = multiprocessing.get_context("fork")


class Made:
    """A fitted probe whose files say which fit wrote them."""

    def __init__(self, number: int) -> None:
        self.number = number

    def save(self, folder: Path) -> None:
        save_state(folder, {"number": self.number}, {"weights": np.full(1000, self.number, np.float32)})


def _write(folder: Path, number: int, barrier) -> None:  # type: ignore[no-untyped-def]
    barrier.wait()
    write_router(folder, RouterRecord("probe", fingerprint=f"{number:064d}", seed=number), Made(number))  # type: ignore[arg-type]


def numbers_of(folder: Path) -> set[int]:
    """Return which fits the files of a router folder are of."""
    from relope.probes.files import check_records, load_state

    record = read_record(folder)
    assert record is not None
    check_records(folder, record.files)
    settings, tensors = load_state(folder)
    return {record.seed, int(record.fingerprint), settings["number"], *map(int, tensors["weights"])}


@pytest.mark.parametrize("unfinished", [False, True])
def test_e2_twenty_rounds_of_two_fits_into_one_folder(tmp_path: Path, unfinished: bool) -> None:
    for turn in range(ROUNDS):
        folder = tmp_path / f"router-{turn}"
        if unfinished:  # a fit that was killed has left its state there
            (folder / ".unfinished").mkdir(parents=True)
        barrier = fork.Barrier(2)
        fits = [fork.Process(target=_write, args=(folder, number, barrier)) for number in (1, 2)]
        for fit in fits:
            fit.start()
        for fit in fits:
            fit.join(60)
        assert [fit.exitcode for fit in fits] == [0, 0]
        found = [numbers_of(path.parent) for path in sorted(tmp_path.glob(f"router-{turn}*/router.json"))]
        assert all(len(numbers) == 1 for numbers in found), found
        assert sorted(found, key=min) == [{1}, {2}], "the second keeps the first one's router under its fingerprint"
    assert not list(tmp_path.glob(".*.partial"))


def test_e2_files_of_two_fits_are_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        write_router(tmp_path / str(number), RouterRecord("probe", fingerprint=str(number)), Made(number))  # type: ignore[arg-type]
    (tmp_path / "1" / "probe.safetensors").write_bytes((tmp_path / "2" / "probe.safetensors").read_bytes())
    with pytest.raises(StoreError, match=r"probe\.safetensors is not what was written"):
        load_router(tmp_path / "1")
