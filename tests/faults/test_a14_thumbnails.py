"""A14: a store keeps what the model saw, so that a report needs no data set and shows no other image."""

import io
import shutil

import numpy as np
import polars as pl
import pytest
from own_data import lines
from PIL import Image

from relope import steps
from relope.errors import InvalidInputError, StoreError
from relope.extract.thumbnails import thumbnail
from relope.spec import EvaluateSpec, ExplainSpec, ExtractSpec, FitSpec, PredictSpec
from relope.steps.reopen import recorded_samples
from relope.store import THUMBNAIL_BYTES, StoreUnion, convert, open_store, verify
from relope.store.share.pull import merge, pull
from relope.store.share.push import push

COLORS = ("red", "lime", "blue", "white")


def picture(path, color):
    """Save a plain image."""
    Image.new("RGB", (64, 64), color).save(path)


def own(folder, n=24):
    """Write questions about images: two questions share one image."""
    folder.mkdir(parents=True)
    rows = []
    for k in range(n):
        picture(folder / f"{k // 2}.png", COLORS[k // 2 % 4])
        row = {"id": f"q{k}", "image": f"{k // 2}.png", "question": f"what color {k} ?", "answer": "red"}
        rows.append({**row, "split": "test" if k % 4 > 1 else "train"})
    return lines(folder / "q.jsonl", rows)


def extract(path, out, **more):
    """Extract a file with the embedded model."""
    asked = {"model": "tiny-vl", "dataset": str(path), "out": out, "device": "cpu", "max_new_tokens": 4}
    return steps.run(ExtractSpec(**asked | more))


def shown(store, sample):
    """Return the colour in the middle of a sample's thumbnail, or None."""
    row = store.samples.filter(id=sample)["row"].item()
    content = store.thumbnail(row)
    if content is None:
        return None
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return image.getpixel((image.width // 2, image.height // 2))


def is_near(pixel, color):
    """Tell whether a pixel has a colour, as far as WebP keeps it."""
    expected = Image.new("RGB", (1, 1), color).getpixel((0, 0))
    return pixel is not None and max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) < 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store and its data set."""
    folder = tmp_path_factory.mktemp("pictured")
    extract(own(folder / "mine"), folder / "s.zarr")
    return folder


def check(path):
    """Make sure that a store shows what the model saw."""
    with open_store(path) as store:
        for sample in ("q0", "q1", "q2", "q5", "q7"):
            assert is_near(shown(store, sample), COLORS[int(sample[1:]) // 2 % 4]), (path, sample)


def test_a14_a_store_keeps_a_small_picture_of_every_image(made):
    check(made / "s.zarr")
    (file,) = (made / "s.zarr" / "parts").glob("*/thumbnails.parquet")
    frame = pl.read_parquet(file)
    assert len(frame) == 4, "one a distinct image"
    assert frame["thumbnail"].bin.size().max() <= THUMBNAIL_BYTES
    with open_store(made / "s.zarr") as store:
        assert store.thumbnail(0, 1) is None
        with pytest.raises(InvalidInputError):
            store.thumbnail(99)


@pytest.mark.parametrize(("width", "height"), [(1600, 1200), (3, 900), (160, 160), (1, 1)])
def test_a14_a_thumbnail_is_small_whatever_the_image(width, height):
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    content = thumbnail(Image.fromarray(noise))
    assert len(content) <= THUMBNAIL_BYTES and max(Image.open(io.BytesIO(content)).size) <= 160


def test_a14_content_and_recipe_do_not_depend_on_them(made, tmp_path):
    extract(made / "mine" / "q.jsonl", tmp_path / "none.zarr", thumbnails=False)
    assert not list((tmp_path / "none.zarr" / "parts").glob("*/thumbnails.parquet"))
    with open_store(made / "s.zarr") as store, open_store(tmp_path / "none.zarr") as none:
        assert (store.recipe_id, store.content_id, store.parts) == (none.recipe_id, none.content_id, none.parts)
        assert shown(none, "q0") is None


def test_a14_they_go_along_with_everything_that_copies_a_store(made, tmp_path):
    source, shared = made / "s.zarr", tmp_path / "shared" / "s.zarr"
    shared.parent.mkdir()
    push(source, shared.as_uri())
    pull(shared.as_uri(), tmp_path / "pulled.zarr")
    pull(shared.as_uri(), tmp_path / "test.zarr", splits=("test",))
    pull(shared.as_uri(), tmp_path / "train.zarr", splits=("train",), layers=(4,))
    convert(source, tmp_path / "packed.zarr", codec="zstd")
    convert(source, tmp_path / "fewer.zarr", layers=(3,))
    pull(shared.as_uri(), tmp_path / "first.zarr", splits=("train",))
    merge([tmp_path / "first.zarr", tmp_path / "test.zarr"], tmp_path / "merged.zarr")
    for name in ("pulled", "packed", "fewer", "merged"):
        check(tmp_path / f"{name}.zarr")
        assert verify(tmp_path / f"{name}.zarr", deep=True) == []
    for name, sample, other in (("test", "q2", "q0"), ("train", "q0", "q2")):
        with open_store(tmp_path / f"{name}.zarr") as store:
            assert is_near(shown(store, sample), COLORS[int(sample[1:]) // 2 % 4])
            assert other not in store.samples["id"].to_list()
        (file,) = (tmp_path / f"{name}.zarr" / "parts").glob("*/thumbnails.parquet")
        assert len(pl.read_parquet(file)) == 2, "only what these samples show"
    check(shared.as_uri())
    with open_store(source) as one, open_store(shared.as_uri()) as two:
        both = StoreUnion([one, two])
        assert len(both) == 24 and is_near(shown(both, "q5"), "blue")


@pytest.mark.parametrize("content", [b"", b"<svg onload=x>", b"RIFF0000WEBP" + b"x" * THUMBNAIL_BYTES])
def test_a14_what_is_no_thumbnail_is_refused_by_reader_and_verify(made, tmp_path, content):
    store = shutil.copytree(made / "s.zarr", tmp_path / "s.zarr")
    (file,) = (store / "parts").glob("*/thumbnails.parquet")
    frame = pl.read_parquet(file).with_columns(thumbnail=pl.lit(content, pl.Binary))
    frame.write_parquet(file)
    assert [problem.file for problem in verify(store)] == ["thumbnails.parquet"]
    with open_store(store) as opened, pytest.raises(StoreError, match="is no WebP"):
        opened.thumbnail(0)
    frame.rename({"image": "digest"}).write_parquet(file)
    with open_store(store) as opened, pytest.raises(StoreError, match="must have the columns"):
        opened.thumbnail(0)
    file.write_bytes(b"PAR1")
    with open_store(store) as opened, pytest.raises(StoreError, match="is damaged"):
        opened.thumbnail(0)


def test_a14_a_report_shows_what_the_model_saw_when_the_images_are_others_or_gone(made, tmp_path):
    for thumbnails in (True, False):
        folder = tmp_path / str(thumbnails)
        path, out = own(folder / "mine"), folder / "s.zarr"
        extract(path, out, thumbnails=thumbnails)
        steps.run(FitSpec(method="probe", store=str(out), set={"head": "logistic"}))
        steps.run(PredictSpec(router=str(out) + ".routers/probe", store=str(out)))
        for k in range(12):
            picture(path.parent / f"{k}.png", "magenta")
        (path.parent / "3.png").unlink()
        with open_store(out) as store:
            with pytest.raises(InvalidInputError, match="24 samples have changed"):
                recorded_samples(store, ["train", "test"])
            if thumbnails:
                assert is_near(shown(store, "q2"), "lime")
        steps.run(EvaluateSpec(store=str(out), bootstrap=100))
        page = (folder / "s.zarr.report" / "report.html").read_text(encoding="utf-8")
        assert ("data:image/" in page) is thumbnails


def test_a14_text_that_stood_in_for_images_leaves_none(tmp_path):
    path = own(tmp_path / "mine", 4)
    rows = [{"id": f"q{k}", "caption": "a red square"} for k in range(4)]
    captions = lines(tmp_path / "captions.jsonl", rows)
    extract(path, tmp_path / "s.zarr", text_only=True, captions=captions)
    with open_store(tmp_path / "s.zarr") as store:
        assert store.thumbnail(0) is None


def test_b_one_missing_image_does_not_end_an_evaluation(tmp_path):
    path, out = own(tmp_path / "mine"), tmp_path / "s.zarr"
    extract(path, out, thumbnails=False)
    steps.run(FitSpec(method="attention-probe", store=str(out), set={"epochs": 1}))
    router = str(out) + ".routers/attention-probe"
    steps.run(PredictSpec(router=router, store=str(out)))
    for k in (1, 3):
        (path.parent / f"{k}.png").unlink()
    assert steps.run(EvaluateSpec(store=str(out), bootstrap=100)).path.is_dir()
    page = steps.run(ExplainSpec(router=router, store=str(out), sample="q2")).path
    assert "The image itself is not shown" in page.read_text(encoding="utf-8")
