"""B: rows of a data file that ended a run, or skipped what was sound."""

import io
import json
import struct

import numpy as np
import polars as pl
import pytest
from own_data import WRITERS, lines, parquet, read
from PIL import Image

from relope import steps
from relope.errors import InvalidInputError, RelopeError
from relope.extract.data.captions import read_captions
from relope.extract.data.flaws import find_flaws
from relope.extract.data.images import decode
from relope.extract.data.open import open_dataset
from relope.spec import ExtractSpec

CORNER = np.zeros((16, 24, 3), np.uint8)
CORNER[:4, :4] = 255
"""A white corner, top left."""


def with_exif(exif, kind="PNG"):
    """Return the picture with EXIF data."""
    buffer = io.BytesIO()
    if kind == "JPEG" and isinstance(exif, bytes):
        exif = b"Exif\x00\x00" + exif
    Image.fromarray(CORNER).save(buffer, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def tiff(*entries, tail=b""):
    """Return EXIF data of entries: tag, type, count, value."""
    made = b"MM\x00\x2a\x00\x00\x00\x08" + struct.pack(">H", len(entries))
    return made + b"".join(struct.pack(">HHII", *entry) for entry in entries) + struct.pack(">I", 0) + tail


ORIENTATION = 0x0112
BAD = {
    "no TIFF": b"not at all",
    "cut off": tiff((ORIENTATION, 3, 1, 6 << 16))[:14],
    "an offset beyond the end": tiff((0x8769, 4, 1, 0xFFFFFFF0)),
    "a value of another type": tiff((ORIENTATION, 2, 4, 0x41424300)),
    "a value out of range": tiff((ORIENTATION, 3, 1, 77 << 16)),
    "a broken fraction": tiff((0x011A, 5, 1, 4096)),
    "an unknown type": tiff((ORIENTATION, 99, 1, 6 << 16)),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", BAD.values(), ids=BAD)
def test_b_bad_exif_does_not_skip_a_sound_image(exif, kind):
    shown = decode(with_exif(exif, kind))
    assert shown.size == (24, 16) and shown.getpixel((1, 1))[0] > 200 > 50 > shown.getpixel((22, 14))[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_b_good_exif_still_turns_images_even_beside_a_bad_entry(kind):
    corners = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
    for orientation, (right, low) in corners.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        shown = decode(with_exif(exif, kind))
        assert shown.size == ((24, 16) if orientation < 5 else (16, 24))
        x, y = (shown.width - 2) * right + 1 - right, (shown.height - 2) * low + 1 - low
        assert shown.getpixel((x, y))[0] > 200, orientation
    if kind != "TIFF":
        bad = tiff((ORIENTATION, 3, 1, 6 << 16), (0x011A, 5, 1, 4096))
        assert decode(with_exif(bad, kind)).size == (16, 24)


HALF = "\ud83d"
ROW = {"question": "What?", "answer": "x", "split": "test"}


@pytest.mark.parametrize(
    "more",
    [
        {"question": f"What? {HALF}"},
        {"hint": HALF},
        {"caption": f"a{HALF}"},
        {"kind": HALF},
        {"answer": [f"x{HALF}", "y"]},
        {"choices": ["x", f"y{HALF}"]},
        {"system": HALF},
        {"messages": [{"role": "user", "content": f"What?{HALF}"}], "question": None},
        {"messages": json.dumps([{"role": "user", "content": f"What?{HALF}"}]), "question": None},
    ],
    ids=lambda more: next(iter(more)),
)
def test_b_half_of_a_character_is_a_flaw(tmp_path, more):
    path = lines(tmp_path / "q.jsonl", [{**ROW, "id": "torn", **more}, {**ROW, "id": "good"}])
    (flaw,) = find_flaws(list(read(path).values()), text_only=False)[0]
    assert flaw.id == "torn" and flaw.reason == f"column {next(iter(more))!r} holds \\ud83d, half of a character"


def test_b_half_of_a_character_elsewhere(tmp_path):
    for name in ("id", "split"):
        with pytest.raises(InvalidInputError, match=f"column '{name}' in line 1 .* must be whole text") as error:
            read(lines(tmp_path / "q.jsonl", [{**ROW, name: f"x{HALF}"}]))
        str(error.value).encode()
    notes = open_dataset(str(lines(tmp_path / "q.jsonl", [{**ROW, f"x{HALF}": 1}]))).notes
    "".join(notes).encode()
    (sample,) = read(lines(tmp_path / "q.jsonl", [{**ROW, "image": f"{HALF}.png"}])).values()
    (flaw,) = find_flaws([sample], text_only=False)[0]
    flaw.reason.encode()
    captions = lines(tmp_path / "c.jsonl", [{"id": "a", "caption": HALF}])
    with pytest.raises(InvalidInputError, match=r"line 1 of .* holds \\ud83d"):
        read_captions(captions)
    captions.write_text("[" * 100_000 + "\n\n", encoding="utf-8")
    with pytest.raises(RelopeError, match="no JSON"):
        read_captions(captions)


def test_b_half_of_a_character_does_not_end_an_extraction(tmp_path):
    path = lines(tmp_path / "q.jsonl", [{**ROW, "id": "torn", "question": HALF}, {**ROW, "id": "good"}])
    asked = {"model": "tiny-vl", "dataset": str(path), "out": tmp_path / "s.zarr", "device": "cpu", "max_new_tokens": 4}
    outcome = steps.run(ExtractSpec(**asked))
    assert outcome.facts["computed"] == 1 and [flaw["id"] for flaw in outcome.facts["skipped"]] == ["torn"]
    with pytest.raises(InvalidInputError, match="1 of 1 samples cannot be used"):
        steps.run(
            ExtractSpec(**asked | {"dataset": str(lines(path, [{**ROW, "question": HALF}])), "out": tmp_path / "t"})
        )


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("column", ["question", "answer"])
def test_b_an_empty_cell_is_skipped_in_every_kind_of_file(tmp_path, kind, column):
    rows = [{"id": "empty", "question": "How many?", "answer": "7", column: None}, {"id": "good", **ROW}]
    rows = [{name: row.get(name) for name in ("id", "question", "answer")} for row in rows]
    samples = read(WRITERS[kind](tmp_path / f"q{kind}", rows))
    (flaw,) = find_flaws(list(samples.values()), text_only=False)[0]
    assert flaw.id == "empty" and set(samples) == {"empty", "good"}


def test_b_a_row_of_csv_that_ends_early_is_a_row_with_empty_cells(tmp_path):
    (tmp_path / "q.csv").write_text("id,question,answer,hint\n1,What?,x\n2,What?\n", encoding="utf-8")
    assert {name: sample.answers for name, sample in read(tmp_path / "q.csv").items()} == {"1": ("x",), "2": ()}


def test_b_a_parquet_file_without_rows(tmp_path):
    parquet(tmp_path / "train-0.parquet", [{**ROW, "id": "a"}])
    pl.read_parquet(tmp_path / "train-0.parquet").clear().write_parquet(tmp_path / "train-1.parquet")
    assert set(read(tmp_path)) == {"a"}
    with pytest.raises(InvalidInputError, match="has no rows"):
        read(tmp_path / "train-1.parquet")
    (tmp_path / "train-2.parquet").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="cannot be read as Parquet"):
        read(tmp_path)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_b_a_csv_with_another_separator_is_told_as_one(tmp_path, mark):
    path = tmp_path / "q.csv"
    path.write_text(f"question{mark}answer{mark}split\nWhat, exactly?{mark}x{mark}test\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"the header of q\.csv is one cell") as error:
        open_dataset(str(path))
    assert f"separated by {mark!r}, not by commas" in str(error.value) and "save it with commas" in error.value.hint


@pytest.mark.parametrize("cell", ["a|b", "a; b", "a/b", "a, b"])
def test_b_choices_as_text_are_told_with_how_to_write_them(tmp_path, cell):
    table = tmp_path / "q.csv"
    table.write_text(f'question,answer,choices\nWhich?,a,"{cell}"\n', encoding="utf-8")
    with pytest.raises(
        InvalidInputError, match=r"column 'choices' in row 1 of q\.csv holds '.*'; it must be a list"
    ) as error:
        open_dataset(str(table))
    assert '"[""a"", ""b""]"' in error.value.hint
    table.write_text(table.read_text(encoding="utf-8").replace(f'"{cell}"', '"[""a"", ""b""]"'), encoding="utf-8")
    assert next(iter(read(table).values())).choices == ("a", "b"), "what the hint says works"
    with pytest.raises(InvalidInputError, match="it must be a list of 2") as error:
        open_dataset(str(lines(tmp_path / "q.jsonl", [{"question": "Which?", "answer": "a", "choices": cell}])))
    assert error.value.hint == 'write it as ["a", "b"]'


@pytest.mark.parametrize(
    ("name", "text", "says", "hint"),
    [
        ("q.csv", "Question,answer\nA?,x\nB?,x\n", "column 'question' is missing in row 1", "a row needs question"),
        ("q.csv", 'question,answer\nA?,"x\n', "a quote after line 1 of q.csv is not closed", ""),
        ("q.csv", "question,answer\n", "q.csv has no rows; each needs at least a question", ""),
        ("q.txt", "question\tanswer\n", "its name must end in .jsonl", "save a table as .csv"),
        ("q.json", '{"question": "A?"}', "must hold a JSON list of objects, not dict", "called .jsonl"),
    ],
)
def test_b_a_file_of_another_shape_is_told_with_what_it_should_be(tmp_path, name, text, says, hint):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(RelopeError) as error:
        open_dataset(str(tmp_path / name))
    assert says in str(error.value) and hint in error.value.hint and len(error.value.lines.splitlines()) <= 2


@pytest.mark.parametrize("name", ["q.cvs", "Q.csv", "qq.csv"])
def test_b_a_misspelt_file_is_told_with_the_one_beside(tmp_path, monkeypatch, name):
    monkeypatch.chdir(lines(tmp_path / "q.csv", []).parent)
    with pytest.raises(RelopeError, match=rf"no data file at {name}; did you mean 'q\.csv'\?"):
        open_dataset(name)
