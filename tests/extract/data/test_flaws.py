"""Bad samples are skipped, counted and named; with --strict they stop the run before it begins."""

import io
import json
import zlib

import pytest
from checkpoints import make
from mini_hub import png
from PIL import Image

from relope import steps
from relope.errors import InvalidInputError
from relope.extract.data.flaws import find_flaws, read_skipped
from relope.extract.data.images import decode
from relope.extract.data.open import open_dataset
from relope.spec import ExtractSpec, build
from relope.store import ActivationStore, verify


def chunk(kind, data):
    """Return one chunk of a PNG file."""
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def hollow_png(width, height):
    """Return a tiny PNG file that says it is that large: a decompression bomb."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    row = b"\0" * (1 + width // 8)
    data = zlib.compress(row * min(height, 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BROKEN = {
    "truncated": png("red", (200, 200))[:120],
    "text": b"this is no image",
    "bomb": hollow_png(13_000, 13_000),
    "huge bomb": hollow_png(60_000, 60_000),
    "flat": hollow_png(0, 10),
    "empty": b"",
    "bad checksum": png("red")[:-20] + b"12345678" + png("red")[-12:],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_say_what_is_wrong(name):
    with pytest.raises(InvalidInputError, match="the image") as error:
        decode(BROKEN[name])
    assert len(str(error.value).splitlines()) == 1 and "<" not in str(error.value)
    assert ("million pixels" in str(error.value)) is ("bomb" in name)


def test_images_are_upright_rgb():
    image, exif = Image.new("RGB", (4, 2), "red"), Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    assert decode(buffer.getvalue()).size == (2, 4)
    for mode in ("L", "1", "P", "CMYK", "I;16", "LA"):
        buffer = io.BytesIO()
        Image.new(mode, (3, 3)).save(buffer, "TIFF" if mode in ("CMYK", "I;16") else "PNG")
        assert decode(buffer.getvalue()).mode == "RGB"


def data_file(folder, bad=True):
    """Write ten questions, six of them unusable when ``bad``."""
    folder.mkdir(exist_ok=True)
    rows = []
    for n in range(10):
        (folder / f"{n}.png").write_bytes(png((n * 20, 0, 0), (64, 64)))
        rows.append(
            {"id": f"q{n}", "question": "what color is it ?", "answer": "red", "image": f"{n}.png", "split": "test"}
        )
    if bad:
        (folder / "1.png").write_bytes(BROKEN["truncated"])
        (folder / "3.png").unlink()
        (folder / "5.png").write_bytes(BROKEN["bomb"])
        rows[7]["question"] = ""
        rows[8]["choices"] = ["green", "blue"]
        rows[9]["question"] = "what " * 400
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


BAD = {"q1", "q3", "q5", "q7", "q8", "q9"}


def spec(path, out, **more):
    """Return the specification of a short run."""
    return ExtractSpec(model="tiny-vl", dataset=str(path), out=out, device="cpu", max_new_tokens=3, **more)


def test_bad_samples_are_skipped_named_and_shown(tmp_path):
    path, out = data_file(tmp_path / "data"), tmp_path / "s.zarr"
    outcome = steps.run(spec(path, out))
    assert outcome.facts["computed"] == 4 and {flaw["id"] for flaw in outcome.facts["skipped"]} == BAD
    assert "6 samples skipped (q1: image 1:" in outcome.text and "and 3 more" in outcome.text
    skipped = read_skipped(out)
    assert set(skipped) == BAD and skipped["q3"]["split"] == "test"
    assert "there is no file" in skipped["q3"]["reason"] and "million pixels" in skipped["q5"]["reason"]
    assert "tokens is longer than the 256" in skipped["q9"]["reason"]
    assert verify(out, deep=True) == [] and steps.run(build("store info", {"store": out})).facts["skipped"] == 6
    with ActivationStore.open(out) as store:
        assert not BAD & set(store.samples["id"])


def test_again_it_is_the_same_and_mended_samples_come_in(tmp_path):
    path, out = data_file(tmp_path / "data"), tmp_path / "s.zarr"
    steps.run(spec(path, out))
    parts = sorted((out / "parts").iterdir())
    again = steps.run(spec(path, out))
    assert again.reused and len(again.facts["skipped"]) == 6 and sorted((out / "parts").iterdir()) == parts
    (tmp_path / "data" / "3.png").write_bytes(png("blue", (64, 64)))
    mended = steps.run(spec(path, out))
    assert mended.facts["computed"] == 1 and set(read_skipped(out)) == BAD - {"q3"}


def test_strict_stops_before_anything_is_computed_and_keeps_what_is_there(tmp_path):
    path, out = data_file(tmp_path / "data", bad=False), tmp_path / "s.zarr"
    steps.run(spec(path, out, limit=5))
    data_file(tmp_path / "data")
    kept = [line for line in path.read_text().splitlines(True) if '"q1"' not in line and '"q3"' not in line]
    path.write_text("".join(kept))
    with pytest.raises(InvalidInputError, match="samples cannot be used: q5: ") as error:
        steps.run(spec(path, out, strict=True))
    assert "drop --strict" in error.value.hint
    with ActivationStore.open(out) as store:
        assert len(store.samples) == 5
    assert verify(out, deep=True) == []


def test_nothing_left_is_an_error(tmp_path):
    path = data_file(tmp_path / "data")
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"q3"' in line or '"q7"' in line))
    with pytest.raises(InvalidInputError, match="2 of 2 samples cannot be used"):
        steps.run(spec(path, tmp_path / "s.zarr"))
    assert not (tmp_path / "s.zarr").exists(), "the name is free for a mended recipe"


def test_each_distinct_image_is_decoded_once(monkeypatch, tmp_path):
    path = data_file(tmp_path / "data", bad=False)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "id": f"{n}", "image": "0.png"}) + "\n" for n, row in enumerate(rows)))
    opened, real = [], Image.open
    samples = open_dataset(str(path)).load("test", None)
    monkeypatch.setattr(Image, "open", lambda *args, **rest: opened.append(1) or real(*args, **rest))
    flaws, sizes = find_flaws(samples, text_only=False)
    assert flaws == [] and list(sizes.values()) == [(64, 64)] and len(opened) == 1


def test_text_that_holds_the_models_image_token_is_a_flaw(tmp_path, backbone):
    path = data_file(tmp_path / "data", bad=False)
    path.write_text(path.read_text().replace("what color is it ?", f"what {backbone.processor.image_token} ?", 1))
    outcome = steps.run(spec(path, tmp_path / "s.zarr"))
    assert [flaw["id"] for flaw in outcome.facts["skipped"]] == ["q0"] and outcome.facts["computed"] == 9


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("gemma3", "<image_soft_token>"),
        ("gemma3", "<start_of_image>"),
        ("qwen2.5-vl", "<|video_pad|>"),
        ("internvl", "<video>"),
        ("phi4-multimodal", "<|audio|>"),
    ],
)
def test_so_is_text_that_holds_another_token_of_media(tmp_path, name, token):
    path = data_file(tmp_path / "data", bad=False)
    path.write_text(path.read_text().replace("what color is it ?", f"what {token} ?", 1))
    folder = make(name, tmp_path / "model")
    outcome = steps.run(spec(path, tmp_path / "s.zarr").model_copy(update={"model": str(folder)}))
    assert [flaw["reason"].split(",")[0] for flaw in outcome.facts["skipped"]] == [f"its text holds {token}"]
    assert outcome.facts["computed"] == 9


def test_an_image_that_the_processor_refuses_is_a_flaw(tmp_path):
    path = data_file(tmp_path / "data", bad=False)
    (tmp_path / "data" / "2.png").write_bytes(png("red", (1, 900)))
    outcome = steps.run(spec(path, tmp_path / "s.zarr"))
    assert [flaw["id"] for flaw in outcome.facts["skipped"]] == ["q2"]
    assert "aspect ratio" in outcome.facts["skipped"][0]["reason"]
