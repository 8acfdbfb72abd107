"""HTTP: payloads as servers meant them, also where the headers and the bytes disagree."""

import gzip
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipelines.readers.http import answer, media_type

BODY = "Grüße aus dem Netz. ".encode() * 20


def message(body, **headers):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return b"HTTP/1.1 200 OK\r\n" + lines.encode() + b"\r\n" + body


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("zstd", zstandard.compress(BODY)),
        ("identity", BODY),
        ("gzip", BODY),
        ("br", BODY),
        ("something", BODY),
        ("gzip, deflate", zlib.compress(gzip.compress(BODY, mtime=0))),
    ],
)
def test_a_payload_is_decoded_and_one_that_was_decoded_already_is_taken_as_it_is(coding, packed):
    found = answer(message(packed, Content_Encoding=coding), 10_000)
    assert (found.payload, found.problem) == (BODY, "")


def test_brotli_is_decoded_and_bounded():
    brotli = pytest.importorskip("brotli")
    assert answer(message(brotli.compress(BODY), Content_Encoding="br"), 10_000).payload == BODY
    assert (
        "larger than 10000 bytes"
        in answer(message(brotli.compress(bytes(1 << 22)), Content_Encoding="br"), 10_000).problem
    )


def test_a_damaged_or_unknown_coding_is_a_problem_and_so_is_a_payload_that_blows_up():
    assert (
        answer(message(b"\x1f\x8b\x08\x00" + b"\xff" * 30, Content_Encoding="gzip"), 10_000).problem
        == "damaged gzip: error"
    )
    assert "unknown" in answer(message(b"\x00\x01\xff", Content_Encoding="mine"), 10_000).problem
    assert (
        "larger than 10000 bytes"
        in answer(message(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip"), 10_000).problem
    )


def test_chunks_are_joined_and_what_is_not_chunked_is_left_alone():
    def payload(body):
        return answer(message(body, Transfer_Encoding="chunked"), 10_000).payload

    assert (
        payload(b"4\r\nWiki\r\n6;name=x\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n")
        == b"Wikipedia in \r\n\r\nchunks."
    )
    assert payload(b"<html>not chunked</html>") == b"<html>not chunked</html>"
    assert payload(b"4\r\nWiki\r\nzz\r\nrest") == b"Wiki"
    assert payload(b"ff\r\nshort") == b"short"


def test_status_type_charset_and_language_are_read():
    found = answer(message(b"x", Content_Type='Text/HTML; Charset="ISO-8859-1"', Content_Language="de-AT, en"), 100)
    assert (found.status, found.content_type, found.charset, found.language) == (
        200,
        "text/html",
        "ISO-8859-1",
        "de-AT",
    )
    assert answer(b"no status line", 100) == (0, "", "", "", b"no status line", "")
    assert media_type("text/plain;charset=utf-8") == ("text/plain", "utf-8")


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "br", "zstd", "x", ""]), st.booleans())
def test_arbitrary_payloads_crash_nothing(body, coding, chunked):
    headers = {"Content_Encoding": coding, **({"Transfer_Encoding": "chunked"} if chunked else {})}
    found = answer(message(body, **headers), 1000)
    assert len(found.payload) <= 1000 or found.payload == body
