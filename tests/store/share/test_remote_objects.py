"""What a bucket answers, and what we make of it: a small HTTP server in the place of S3."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from relope.errors import NotFoundError, OutputError, StoreError
from relope.locations import parse_uri
from relope.store.share.remote import rewrite
from relope.store.share.remote_folder import FolderRemote
from relope.store.share.remote_objects import ObjectRemote


@pytest.fixture
def answers(s3, monkeypatch):
    """Give each request to the next (status, code, headers); keep what was asked."""
    queue, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("content-length", 0))
            asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            status, code, headers = queue.pop(0) if len(queue) > 1 else queue[0]
            body = f"<Error><Code>{code}</Code><Message>said {code}</Message></Error>".encode() if code else b""
            self.send_response(status)
            for name, value in {"content-length": len(body), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield queue, asked
    server.shutdown()
    thread.join()
    server.server_close()


ERRORS = [
    ((403, "InvalidAccessKeyId", {}), OutputError, "refuses these credentials: InvalidAccessKeyId: said"),
    ((403, "AccessDenied", {}), OutputError, "refuses these credentials: AccessDenied"),
    ((404, "NoSuchBucket", {}), NotFoundError, "there is no bucket 'bucket'"),
    ((301, "PermanentRedirect", {}), OutputError, "set AWS_REGION"),
    ((501, "NotImplemented", {}), OutputError, "lacks conditional writes"),
    ((400, "Strange", {}), OutputError, "cannot be reached: Strange: said Strange"),
]


@pytest.mark.parametrize(("answer", "kind", "says"), ERRORS, ids=[answer[0][1] for answer in ERRORS])
def test_errors_in_two_lines(answers, answer, kind, says):
    answers[0].append(answer)
    remote = ObjectRemote(parse_uri("s3://bucket/x.zarr"))
    for ask in (
        lambda: remote.read("zarr.json"),
        lambda: remote.files("parts"),
        remote.folders,
        lambda: remote.swap("catalog/1.json", b"{}", None),
        lambda: remote.read_range("a", 0, 5),
    ):
        with pytest.raises(kind) as said:
            ask()
        assert says in said.value.lines and "s3://bucket/x.zarr" in str(said.value)
        assert len(said.value.lines.splitlines()) <= 2


def test_a_catalog_is_created_with_if_none_match(answers):
    queue, asked = answers
    queue.append((200, "", {"etag": '"1"'}))
    assert ObjectRemote(parse_uri("s3://bucket/x.zarr")).swap("catalog/2.json", b"{}", None)
    [(method, path, headers, body)] = asked
    assert (method, path, body) == ("PUT", "/bucket/x.zarr/catalog/2.json", b"{}")
    assert {name.lower(): value for name, value in headers.items()}["if-none-match"] == "*"


def test_a_server_that_failed_once_is_asked_again(answers):
    queue, asked = answers
    queue += [(503, "SlowDown", {}), (200, "", {"etag": '"1"'})]
    assert ObjectRemote(parse_uri("s3://bucket/x.zarr")).swap("catalog/2.json", b"{}", None)
    assert len(asked) == 2


@pytest.fixture
def remote(team):
    place = parse_uri(f"{team}/x.zarr")
    return FolderRemote(place) if place.scheme == "file" else ObjectRemote(place)


def test_files_appear_whole_and_can_be_read_in_pieces(remote, tmp_path):
    big = bytes(range(256)) * 100_000  # larger than what goes up in one piece
    (tmp_path / "big").write_bytes(big)
    sent = []
    remote.upload({"a/big": tmp_path / "big"}, sent.append)
    assert sum(sent) == len(big)
    [file] = remote.files("a")
    assert (file.name, file.n_bytes) == ("a/big", len(big)) and file.modified > 1.7e9
    assert remote.read_range("a/big", 1000, 1_000_000) == big[1000:1_000_000]
    assert remote.read_range("a/big", 7, 7) == b""
    with pytest.raises((StoreError, OutputError)):
        remote.read_range("a/big", len(big) - 1, len(big) + 1)
    with pytest.raises(StoreError, match="more than the 10 that are allowed"):
        remote.read("a/big", 10)
    assert remote.read("a/none") is None and remote.files("none") == []
    assert remote.folders() == ["a"]
    remote.delete(["a/big"])
    remote.delete(["a/big"])
    assert remote.files("") == []


def test_swapping_decides_who_is_first(remote):
    assert remote.swap("x.json", b"1", None)
    assert not remote.swap("x.json", b"2", None)
    first = remote.read("x.json")
    assert first.content == b"1" and remote.swap("x.json", b"3", first.tag)
    assert not remote.swap("x.json", b"4", first.tag)
    assert remote.read("x.json").content == b"3"
    wins, start = [], threading.Barrier(8)

    def race(number):
        start.wait()
        if remote.swap("catalog/1.json", b"%d" % number, None):
            wins.append(b"%d" % number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins == [remote.read("catalog/1.json").content]
    assert [file.name for file in remote.files("")] == ["catalog/1.json", "x.json"] or str(remote.location.uri)[
        :4
    ] == "file"


def test_rewriting_starts_over_from_what_somebody_else_wrote(remote):
    seen = []

    def add(content):
        seen.append(content)
        if len(seen) < 3:  # somebody else is faster, twice
            version = remote.read("grades/x")
            assert remote.swap("grades/x", b"theirs%d" % len(seen), version.tag if version else None)
        return (content or b"") + b"+ours"

    assert rewrite(remote, "grades/x", add)
    assert seen == [None, b"theirs1", b"theirs2"] and remote.read("grades/x").content == b"theirs2+ours"
    assert not rewrite(remote, "grades/x", lambda content: None)

    def never(content):
        remote.swap("grades/x", content + b".", remote.read("grades/x").tag)
        return content

    with pytest.raises(OutputError, match=r"others wrote grades/x at .*x\.zarr 20 times in a row"):
        rewrite(remote, "grades/x", never)


def test_a_put_whose_answer_was_lost_counts(s3):
    """The retry of a create meets its own first attempt."""
    remote = ObjectRemote(parse_uri(f"{s3}/x.zarr"))
    assert remote.swap("catalog/1.json", b"mine", None)
    assert remote.swap("catalog/1.json", b"mine", None)
    assert not remote.swap("catalog/1.json", b"theirs", None)


def test_an_upload_that_fails_half_way_leaves_nothing(remote, tmp_path):
    (tmp_path / "big").write_bytes(bytes(20_000_000))

    def stop(n_bytes):
        raise OutputError("stopped")

    with pytest.raises(Exception, match="stopped"):
        remote.upload({"big": tmp_path / "big"}, stop)
    assert remote.files("") == []


def test_a_file_deleted_between_look_and_read_is_none(tmp_path, monkeypatch):
    remote = FolderRemote(parse_uri((tmp_path / "x.zarr").as_uri()))
    remote.swap("parts/a/.lock", b"mine", None)
    real = os.open

    def slow(path, *arguments):
        Path(path).unlink(missing_ok=True)
        return real(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("relope.store.share.remote_folder.os.open", slow)
        assert remote.read("parts/a/.lock") is None
    assert remote.read("parts/a/.lock/below") is None and remote.read("parts/b/.lock") is None
