"""inspect_ai's logs: images in them, errors, epochs, attachments; damaged and foreign ones."""

import base64
import json
import zipfile
import zlib

import pyarrow as pa
import pytest
from foreign_files import inspect_log, inspect_sample, told
from stepping import question, step, write_rows

from relope.errors import InvalidInputError
from relope.store import open_store
from relope.store.grades import read_grades

ROW = {"id": "q1", "question": "which?", "choices": [], "response": "B", "correct": True}


def brought(path, **values):
    return step("import", files=[str(path)], **values)


def test_images_of_a_log_find_their_samples(tmp_path):
    path = write_rows(tmp_path / "own", [question(number) for number in range(1, 7)])
    step("extract", model="tiny-vl", dataset=path, out=tmp_path / "small.zarr", tokens="lean")
    samples = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        row = json.loads(line)
        uri = "data:image/png;base64," + base64.b64encode((path.parent / row["image"]).read_bytes()).decode()
        shown = {"type": "image", "image": "attachment://x" if number % 2 else uri}
        content = [{"type": "text", "text": row["question"]}, shown]
        asked = [{"role": "user", "content": content}]
        told_of = {**ROW, "id": 7 - number, "choices": row["choices"], "response": row["id"]}
        samples.append(inspect_sample(told_of, input=asked, attachments={"x": uri}))
    done = brought(inspect_log(tmp_path / "a.eval", samples), store=tmp_path / "small.zarr", out=tmp_path / "m.zarr")
    assert "(6 by question and images)" in done.text
    made = open_store(tmp_path / "m.zarr").samples
    assert made["id"].to_list() == made["response"].to_list(), "each answer stands at its own sample"
    assert made.select("prompt_tokens", "completion_tokens", "cached_tokens", "latency_s").unique().rows() == [
        (30, 3, 10, 1.5)
    ]


def test_errors_are_no_answers_and_later_epochs_not_read(tmp_path):
    samples = [
        inspect_sample(ROW),
        inspect_sample({**ROW, "id": "q2"}, error={"message": "timeout", "traceback": "", "traceback_ansi": ""}),
        inspect_sample({**ROW, "id": "q3"}, output={"model": "m", "choices": []}, limit={"type": "time", "limit": 1}),
        inspect_sample(ROW, epoch=2),
        inspect_sample({**ROW, "id": "q4"}, scores={"match": {"value": "P"}, "other": {"value": "C"}}),
    ]
    done = brought(inspect_log(tmp_path / "a.json", samples, status="error"), out=tmp_path / "m.zarr")
    assert open_store(tmp_path / "m.zarr").samples["id"].to_list() == ["q1", "q4"]
    assert [left["reason"] for left in done.facts["failed"]] == ["timeout", "no output (stopped by a limit)"]
    notes = " ".join(done.facts["notes"])
    assert (
        "1 answer of later epochs" in notes and "scorer match; not read: other" in notes and "status is error" in notes
    )
    assert read_grades(open_store(tmp_path / "m.zarr"), None).table["correct"].to_list() == [True, None]


def test_a_number_is_believed_only_beside_what_was_asked(store_path, tmp_path):
    rows = told(store_path)
    with pytest.raises(InvalidInputError, match="does not tell which images it shows"):
        path = inspect_log(tmp_path / "a.json", [inspect_sample({**rows[0], "id": 1})])
        brought(path, store=store_path, out=tmp_path / "m.zarr")


def _zstandard(path, contents, *, packed=None):
    """Write a log whose entries are packed by Zstandard, as ``zipfile`` writes none before Python 3.14."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, pa.compress(content, "zstd", asbytes=True) if packed is None else packed)
            entry = archive.getinfo(name)
            entry.compress_type, entry.file_size, entry.CRC = 93, len(content), zlib.crc32(content)


HEADER = json.dumps({"version": 2, "eval": {"model": "m"}}).encode()


def test_entries_packed_by_zstandard_are_read(tmp_path):
    sample = json.dumps(inspect_sample(ROW)).encode()
    _zstandard(tmp_path / "a.eval", {"header.json": HEADER, "samples/q1_epoch_1.json": sample})
    brought(tmp_path / "a.eval", out=tmp_path / "m.zarr")
    assert open_store(tmp_path / "m.zarr").samples["response"].to_list() == ["B"]


def _other_bytes(path):
    """Entries that unpack well, to something else than what was packed."""
    _zstandard(path, {"header.json": HEADER}, packed=pa.compress(HEADER[::-1], "zstd", asbytes=True))


def _zstandard_bomb(path):
    _zstandard(path, {"header.json": b"{}"}, packed=pa.compress(b" " * ((128 << 20) + 1), "zstd", asbytes=True))


def _bomb(path):
    inspect_log(path, [inspect_sample(ROW)])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples/z_epoch_1.json", b" " * ((128 << 20) + 1))


def _liar(path):
    """A bomb whose directory says that it is small."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "eval": {"model": "m"}}))
        archive.writestr("samples/z_epoch_1.json", b" " * ((128 << 20) + 1))
    size = (128 << 20) + 1
    path.write_bytes(path.read_bytes().replace(size.to_bytes(4, "little"), (64).to_bytes(4, "little")))


def _cut(path):
    inspect_log(path, [inspect_sample(ROW)])
    path.write_bytes(path.read_bytes()[:-40])


def _header(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "eval": {"model": "m"}}))


def _twice(path):
    inspect_log(path, [inspect_sample(ROW)])
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("header.json", "{}")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_bomb, "is not unpacked: samples/z_epoch_1.json unpacks to 134,217,729 bytes"),
        (_liar, "is damaged|is not unpacked"),
        (_other_bytes, "is damaged: Bad CRC-32"),
        (_zstandard_bomb, "is not unpacked: header.json unpacks to more than 134,217,728 bytes"),
        (
            lambda path: _zstandard(path, {"header.json": HEADER}, packed=b"no frame"),
            "header.json in a.eval is damaged",
        ),
        (_cut, "is no whole zip file"),
        (_header, "has no samples"),
        (_twice, "has 1 entry twice"),
        (lambda path: inspect_log(path, [inspect_sample(ROW)], version=3), "is a log of version 3; version 2 is read"),
        (
            lambda path: inspect_log(path, [inspect_sample(ROW, input=7)]),
            "input in samples/q1_epoch_1.json in a.eval",
        ),
        (lambda path: inspect_log(path, [{"id": "q1", "epoch": 1}]), "input is missing in samples/q1_epoch_1.json"),
        (lambda path: path.write_bytes(b"not a zip"), "is no whole zip file"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "is no log: it has none of header.json"),
    ],
)
def test_bad_logs_leave_nothing(tmp_path, spoil, says):
    spoil(tmp_path / "a.eval")
    with pytest.raises(InvalidInputError, match=says) as caught:
        brought(tmp_path / "a.eval", model="m", out=tmp_path / "m.zarr")
    assert caught.value.lines.count("\n") <= 1 and not (tmp_path / "m.zarr").exists()


def test_a_json_log_without_samples_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"a\.json has no samples"):
        brought(inspect_log(tmp_path / "a.json", []), out=tmp_path / "m.zarr")
