"""E9, of data sets: plain files only, and nothing without a bound on what is read."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mini_hub import png
from own_data import lines, read
from PIL import Image

from relope import steps
from relope.errors import InvalidInputError, RelopeError
from relope.extract.data import bounded, rows
from relope.extract.data.bounded import read_bounded
from relope.extract.data.flaws import MAX_CHARACTERS, find_flaws
from relope.extract.data.images import MAX_PIXELS, decode
from relope.spec import ExtractSpec

ROW = {"id": "q", "question": "What?", "answer": "x", "split": "test"}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def in_time():
    """Fail when a test takes more than ten seconds: what blocks cannot be interrupted from inside."""
    timer = threading.Timer(10, os._exit, (97,))
    timer.start()
    begun = time.monotonic()
    yield
    timer.cancel()
    assert time.monotonic() - begun < 10


def special(path, kind):
    """Make a pipe, a device's name or a folder."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["pipe", "zeros", "folder"])
def test_e9_an_image_that_is_no_plain_file_is_a_flaw(tmp_path, kind, in_time):
    special(tmp_path / "a.png", kind)
    path = lines(tmp_path / "q.jsonl", [{**ROW, "image": "a.png"}])
    samples = read(path, allow_outside=True)
    (flaw,) = find_flaws(list(samples.values()), text_only=False)[0]
    assert f"{tmp_path / 'a.png'} is no plain file" in flaw.reason


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.csv", "q.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "zeros"])
def test_e9_a_data_file_that_is_no_plain_file_is_refused(tmp_path, name, kind, in_time):
    special(tmp_path / name, kind)
    for ref in (tmp_path / name, tmp_path):
        with pytest.raises(RelopeError, match=r"is no plain file|is a link to outside"):
            read(ref)
        with pytest.raises(RelopeError, match=r"is no plain file"):
            read(ref, allow_outside=True)


def test_e9_what_is_read_whole_is_bounded_before_it_is_read(tmp_path, monkeypatch):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(bounded.IMAGE_BYTES + 1)  # sparse: it takes no room
    path = lines(tmp_path / "q.jsonl", [{**ROW, "image": "a.png"}])
    (flaw,) = find_flaws(list(read(path).values()), text_only=False)[0]
    assert f"has {bounded.IMAGE_BYTES + 1:,} bytes, more than {bounded.IMAGE_BYTES:,}" in flaw.reason
    with (tmp_path / "q.json").open("wb") as file:
        file.truncate(bounded.WHOLE_BYTES + 1)
    with pytest.raises(InvalidInputError, match=f"more than {bounded.WHOLE_BYTES:,}") as error:
        read(tmp_path / "q.json")
    assert ".jsonl" in error.value.hint
    monkeypatch.setattr(rows, "LINE_BYTES", 200)
    read(lines(tmp_path / "long.jsonl", [{**ROW, "hint": "y" * 100}]))
    with pytest.raises(InvalidInputError, match=r"line 1 of long\.jsonl has more than 200 characters"):
        read(lines(tmp_path / "long.jsonl", [{**ROW, "hint": "y" * 200}]))
    (tmp_path / "long.csv").write_text(f"id,question,answer\nq,{'y' * 300},x\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="field larger than field limit"):
        read(tmp_path / "long.csv")


def test_e9_a_file_that_says_that_it_is_empty_is_bounded_too():
    assert read_bounded(Path("/proc/self/stat"), 1 << 20)
    with pytest.raises(InvalidInputError, match="more than 3"):
        read_bounded(Path("/proc/self/stat"), 3)


def test_e9_a_line_of_zeros_does_not_fill_the_memory(tmp_path):
    """A sparse file of 8 GB without an end of line is refused within the memory that a line may take."""
    with (tmp_path / "q.jsonl").open("wb") as file:
        file.truncate(8 << 30)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "from relope.extract.data.rows import read_rows; from pathlib import Path\n"
        "try: list(read_rows(Path(sys.argv[1])))\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "q.jsonl")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
    )
    assert "line 1 of q.jsonl has more than" in done.stdout


def test_e9_pixels_are_bounded_before_an_image_is_decoded(monkeypatch):
    side = int(MAX_PIXELS**0.5) + 1
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(InvalidInputError, match=rf"has {side}×{side} pixels, more than 50 million pixels"):
        decode(buffer.getvalue())


def test_e9_eps_is_not_decoded_since_another_program_would_run():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    with pytest.raises(InvalidInputError, match="the image is EPS"):
        decode(buffer.getvalue())


def test_e9_a_long_question_is_skipped_and_named(tmp_path, in_time):
    long = {**ROW, "id": "long", "question": "wh " * (MAX_CHARACTERS // 3 + 1)}
    path = lines(tmp_path / "q.jsonl", [ROW, long, {**ROW, "id": "choices", "choices": ["x", "y" * MAX_CHARACTERS]}])
    asked = {"model": "tiny-vl", "dataset": str(path), "out": tmp_path / "s.zarr", "device": "cpu", "max_new_tokens": 4}
    outcome = steps.run(ExtractSpec(**asked))
    reasons = {flaw["id"]: flaw["reason"] for flaw in outcome.facts["skipped"]}
    assert set(reasons) == {"long", "choices"} and outcome.facts["computed"] == 1
    assert all(f"more than {MAX_CHARACTERS:,}" in reason for reason in reasons.values())


def test_a14_an_image_that_changes_under_a_run_is_noticed(tmp_path):
    (tmp_path / "a.png").write_bytes(png("red"))
    (sample,) = read(lines(tmp_path / "q.jsonl", [{**ROW, "image": "a.png"}])).values()
    (tmp_path / "a.png").write_bytes(png("blue"))
    with pytest.raises(InvalidInputError, match="has changed since its digest was taken"):
        sample.images[0].open()
    assert np.asarray(decode(png("blue")))[0, 0].tolist() == [0, 0, 255] and json.dumps(sample.images[0].digest)
