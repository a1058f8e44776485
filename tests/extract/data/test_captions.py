"""Captions: from a server on the loopback or a local model, cached by image, used by --text-only."""

import json

import pytest
import torch
from caption_server import answer, color_of, honest, server
from checkpoints import make
from mini_hub import png

from relope import steps
from relope.errors import InvalidInputError, NotFoundError, OutputError, UnsupportedError
from relope.extract.data.captions import read_captions
from relope.extract.endpoint.address import open_endpoint
from relope.spec import CaptionSpec, ExtractSpec
from relope.steps.reopen import open_streams
from relope.store import ActivationStore

KEY = "sk-secret-of-the-test"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Six questions about three images, two of them shown together once."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(png((n, 0, 0), (64, 64)))
    rows = [
        {"id": f"q{n}", "question": "what color is it ?", "answer": "red", "image": f"{n % 3}.png", "split": "test"}
        for n in range(5)
    ]
    rows.append({"id": "both", "question": "which ?", "answer": "red", "images": ["0.png", "1.png"], "split": "test"})
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(data, url, **more):
    """Return the specification of a run against an endpoint."""
    fields = {
        "dataset": str(data),
        "model": "big",
        "endpoint": url,
        "out": data.parent / "captions.jsonl",
        "workers": 2,
    }
    return CaptionSpec(**fields | more)


def test_each_image_is_asked_about_once_and_never_again(data, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with server(honest) as (url, seen):
        outcome = steps.run(asked(data, url, api_key_env="MY_KEY"))
        assert len(seen) == 3 and not outcome.reused and "3 images described" in outcome.text
        path, authorization, body = seen[0]
        assert path == "/v1/chat/completions" and authorization == f"Bearer {KEY}"
        assert body["model"] == "big" and body["max_tokens"] == 256 and body["temperature"] == 0
        again = steps.run(asked(data, url))
        assert again.reused and len(seen) == 3
    captions = read_captions(outcome.path)
    assert sorted(captions.by_image.values()) == [f"a square of ({n}, 0, 0)" for n in range(3)]
    assert KEY not in outcome.path.read_text()


def test_a_busy_server_is_asked_again(data):
    def busy(number, body):
        return (429, {"Retry-After": "1"}, {"error": "slow down"}) if number in (1, 3) else honest(number, body)

    with server(busy) as (url, seen):
        steps.run(asked(data, url, workers=1))
        assert len(seen) == 5


def test_a_failure_keeps_what_was_made_and_the_next_run_goes_on(data):
    def dies(number, body):
        return honest(number, body) if number < 3 else (401, {}, {"error": f"bad key {KEY}"})

    with server(dies) as (url, _):
        with pytest.raises(OutputError, match="answered 401") as error:
            steps.run(asked(data, url, workers=1))
        assert len(str(error.value).splitlines()) == 1 and "is kept" in error.value.hint
    path = data.parent / "captions.jsonl"
    assert len(read_captions(path).by_image) == 2
    path.write_bytes(path.read_bytes() + b'{"image": "cut o')
    with server(honest) as (url, seen):
        steps.run(asked(data, url))
        assert len(seen) == 1
    assert len(read_captions(path).by_image) == 3 and b"cut o" not in path.read_bytes()


def test_the_key_follows_no_redirect_and_is_never_shown(data, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with server(honest) as (other, stolen):
        with (
            server(lambda n, body: (302, {"Location": f"{other}/chat/completions"}, {"error": KEY})) as (url, _),
            pytest.raises(OutputError, match="302") as error,
        ):
            steps.run(asked(data, url, api_key_env="MY_KEY"))
        assert stolen == [] and KEY not in str(error.value)


@pytest.mark.parametrize("reply", [{"x": 1}, {"choices": []}, "text", answer(3), answer([3])])
def test_what_is_no_answer(data, reply):
    with server(lambda n, body: (200, {}, reply)) as (url, seen):
        with pytest.raises(OutputError, match="/chat/completions sent no chat completion: ") as error:
            steps.run(asked(data, url, workers=1))
        assert error.value.hint.startswith("what was answered is kept")
        assert len(seen) <= 2, "a server that speaks another language is not asked for it again"


def test_an_answer_in_pieces(data):
    pieces = answer([{"type": "text", "text": " a red"}, {"type": "text", "text": " square"}])
    with server(lambda n, body: (200, {}, pieces)) as (url, _):
        outcome = steps.run(asked(data, url))
    assert set(read_captions(outcome.path).by_image.values()) == {"a red square"}


def test_an_image_that_the_server_refuses_is_skipped_and_named(data):
    def picky(number, body):
        return (400, {}, {"error": "content policy"}) if color_of(body)[0] == 0 else honest(number, body)

    with server(picky) as (url, seen):
        outcome = steps.run(asked(data, url, workers=1))
        assert len(seen) == 3 and len(read_captions(outcome.path).by_image) == 2
    (reason,) = outcome.facts["skipped"].values()
    assert "answered 400" in reason and "content policy" in reason and "1 skipped" in outcome.text


def test_a_server_that_refuses_every_image_is_an_error(data):
    def closed(number, body):
        return 400, {}, {"error": "no such parameter"}

    with server(closed) as (url, seen):
        with pytest.raises(OutputError, match=r"no such parameter.*; it refused every image"):
            steps.run(asked(data, url, workers=1))
        assert len(seen) <= 4


def test_a_text_only_model_cannot_describe(data, tmp_path):
    folder = make("llama", tmp_path / "llama")
    with pytest.raises(UnsupportedError, match="cannot describe images"):
        steps.run(asked(data, None, model=str(folder), device="cpu"))


def test_mistakes(data):
    with pytest.raises(InvalidInputError, match="is no web address"):
        steps.run(asked(data, "file:///etc/passwd"))
    with pytest.raises(NotFoundError, match="no variable RELOPE_NO_SUCH_KEY"):
        steps.run(asked(data, "http://localhost:1", api_key_env="RELOPE_NO_SUCH_KEY"))
    with pytest.raises(OutputError, match="cannot be reached"):
        steps.run(asked(data, "http://127.0.0.1:9/v1", workers=1))
    with server(honest) as (url, _):
        steps.run(asked(data, url))
        with pytest.raises(InvalidInputError, match="made with model 'big'"):
            steps.run(asked(data, url, model="bigger"))
        with pytest.raises(InvalidInputError, match="made with the prompt"):
            steps.run(asked(data, url, prompt="Why?"))
    data.write_text('{"question": "a?", "answer": "b"}\n')
    with pytest.raises(InvalidInputError, match="has no images"):
        steps.run(asked(data, url, out=data.parent / "other.jsonl"))


def test_a_broken_image_is_skipped_and_named(data):
    (data.parent / "1.png").write_bytes(b"no image")
    with server(honest) as (url, seen):
        outcome = steps.run(asked(data, url))
    assert len(seen) == 2 and len(outcome.facts["skipped"]) == 1 and "cannot be decoded" in outcome.text


def test_a_local_model_describes_too(data):
    spec = asked(
        data, None, model="tiny-vl", prompt="what color is it ?", device="cpu", dtype="float32", max_new_tokens=4
    )
    outcome = steps.run(spec)
    assert len(read_captions(outcome.path).by_image) == 3
    assert all(text and "<" not in text for text in read_captions(outcome.path).by_image.values())


def test_a_batch_of_images_that_does_not_fit(data, monkeypatch, backbone):
    def full(*args, **rest):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(backbone.model), "generate", full)
    with pytest.raises(InvalidInputError, match="2 images at a time do not fit") as error:
        steps.run(asked(data, None, model="tiny-vl", device="cpu"))
    assert error.value.hint == "use fewer --workers"


def test_text_only_reads_the_captions(data, tmp_path):
    with server(honest) as (url, _):
        captions = steps.run(asked(data, url)).path
    fields = {"model": "tiny-vl", "dataset": str(data), "device": "cpu", "max_new_tokens": 2, "text_only": True}
    out = tmp_path / "text.zarr"
    assert steps.run(ExtractSpec(**fields, captions=captions, out=out)).facts["computed"] == 6
    with ActivationStore.open(out) as store:
        assert store.manifest.identity["captions"] == read_captions(captions).identity
        assert not (store.samples["n_tokens"] < 16).any()
        samples = open_streams(store).samples
    assert samples["q1"].caption == "a square of (1, 0, 0)"
    assert samples["both"].caption == "Image 1: a square of (0, 0, 0)\nImage 2: a square of (1, 0, 0)"
    lines = captions.read_text().splitlines(True)
    captions.write_text("".join(lines[:1]))
    with pytest.raises(Exception, match="captions was"):
        steps.run(ExtractSpec(**fields, captions=captions, out=out))
    fewer = steps.run(ExtractSpec(**fields, captions=captions, out=tmp_path / "fewer.zarr"))
    assert all("no caption" in flaw["reason"] for flaw in fewer.facts["skipped"])
    assert fewer.facts["computed"] + len(fewer.facts["skipped"]) == 6


def test_captions_by_hand(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "q1", "caption": "a red square"}\n')
    assert read_captions(path).by_id == {"q1": "a red square"}
    for line, says in (
        ("[1]", "must be an object"),
        ('{"caption": "x"}', "an image or id"),
        ('{"id": "a"}', "a caption"),
    ):
        path.write_text(line + "\n")
        with pytest.raises(InvalidInputError, match=says):
            read_captions(path)
    path.write_text("{no\n{}\n")
    with pytest.raises(InvalidInputError, match=r"line 1 of .* is no JSON"):
        read_captions(path)
    with pytest.raises(NotFoundError, match="no captions file"):
        read_captions(tmp_path / "none")


def test_urls():
    for url in ("http://h/v1", "http://h/v1/", "http://h/v1/chat/completions"):
        assert open_endpoint(url, "m", None).url == "http://h/v1/chat/completions"
