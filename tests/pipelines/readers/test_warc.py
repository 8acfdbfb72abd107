"""WARC and ARC: every byte of a file is in a record or in a reason, and broken records end nothing."""

import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.readers import crawl
from pipelines.readers.crawl import warc_records
from pipelines.readers.warc import captures

LIMIT = 100_000
PAGE = b"<html><body><p>A page with a number: %d</p></body></html>"


@pytest.fixture(autouse=True)
def plain_pages(monkeypatch):
    """The text of a page is its payload: extraction has tests of its own."""

    def as_it_is(place, payload, recipe, where, charset=""):
        return place._replace(text=payload.decode(charset or "utf-8", "replace"))

    monkeypatch.setattr(crawl, "page_record", as_it_is)


def warc(kind, block, url="http://example.com/", content_type="application/http", length=None, **headers):
    head = {
        "WARC-Type": kind,
        "WARC-Target-URI": url,
        "Content-Type": content_type,
        "WARC-Date": "2026-11-01T00:00:00Z",
    }
    head |= {"Content-Length": str(len(block) if length is None else length), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return b"WARC/1.0\r\n" + lines.encode() + b"\r\n" + block + b"\r\n\r\n"


def response(number, status=200, headers=b"Content-Type: text/html\r\n", body=None):
    block = b"HTTP/1.1 %d OK\r\n%s\r\n%s" % (status, headers, PAGE % number if body is None else body)
    return warc("response", block, f"http://www.host{number}.com/a")


def read(folder, data, name="a.warc", limit=LIMIT):
    (folder / name).write_bytes(data)
    return list(warc_records(folder / name, name, None, limit))


def test_pages_keep_their_address_host_date_and_place(tmp_path):
    first = warc("warcinfo", b"about: this\r\n", content_type="application/warc-fields")
    found = read(tmp_path, first + response(1) + warc("request", b"GET / HTTP/1.1\r\n\r\n") + response(2))
    assert [r.text.encode() for r in found] == [PAGE % 1, PAGE % 2]
    assert (found[0].url, found[0].key) == ("http://www.host1.com/a", "http://www.host1.com/a")
    assert (found[0].group, found[0].date) == ("host1.com", "2026-11-01T00:00:00Z")
    assert (found[0].position, found[0].uri) == (len(first), f"a.warc#offset={len(first)}")


def test_the_place_of_a_compressed_record_is_the_one_that_an_index_names(tmp_path):
    one, two = gzip.compress(response(1)), gzip.compress(response(2))
    found = read(tmp_path, one + two, "a.warc.gz")
    assert [r.uri for r in found] == ["a.warc.gz#offset=0", f"a.warc.gz#offset={len(one)}"]
    whole = read(tmp_path, gzip.compress(response(1) + response(2)), "b.warc.gz")
    assert [r.uri for r in whole] == ["b.warc.gz#offset=0", f"b.warc.gz#offset=0&skip={len(response(1))}"]
    assert [r.text for r in whole] == [r.text for r in found]


def test_conversions_and_resources_are_documents_and_other_types_are_none(tmp_path):
    text = "Grüße".encode()
    data = warc("conversion", text, content_type="text/plain", **{"WARC-Identified-Content-Language": "deu,eng"})
    data += warc("resource", PAGE % 1, content_type="text/html") + warc(
        "metadata", b"{}", content_type="application/json"
    )
    data += warc("revisit", b"") + warc("resource", b"\x89PNG", content_type="image/png")
    conversion, resource, image = read(tmp_path, data)
    assert (conversion.text, conversion.language) == ("Grüße", "deu")
    assert resource.text.encode() == PAGE % 1
    assert image.problem.startswith("not HTML: a.warc offset ")
    assert image.problem.endswith(", image/png")


def test_answers_that_are_no_pages_say_why(tmp_path):
    data = response(1, status=404) + response(2, body=b" ") + response(3, headers=b"Content-Type: application/pdf\r\n")
    assert [r.problem.split(", ")[-1] for r in read(tmp_path, data)] == [
        "HTTP status 404",
        "the payload is empty",
        "application/pdf",
    ]


def test_garbage_between_records_is_one_record_and_the_next_is_found(tmp_path):
    found = read(tmp_path, response(1) + b"garbage\r\nWARC? no\r\n" + response(2))
    assert [r.text.encode() or r.problem for r in found] == [
        PAGE % 1,
        f"not a record: a.warc offset {len(response(1))}, 19 bytes: no record begins here",
        PAGE % 2,
    ]


@pytest.mark.parametrize("length", [10, 5000, 10**14])
def test_a_record_with_a_wrong_length_spoils_no_other(tmp_path, length):
    wrong = warc("response", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + PAGE % 0, length=length)
    found = read(tmp_path, response(1) + wrong + response(2) + response(3))
    texts = [r.text.encode() for r in found if not r.problem]
    assert texts[0] == PAGE % 1
    assert texts[-1] == PAGE % 3
    assert any(r.problem.startswith("not a record") for r in found)
    assert PAGE % 2 in texts


def test_a_record_above_the_limit_is_hashed_and_the_next_one_read(tmp_path):
    bad, good = read(tmp_path, response(1, body=b"x" * 3000) + response(2), limit=2000)
    assert bad.problem.startswith("too large: a.warc offset 0, ")
    assert (bad.url, len(bad.raw)) == ("http://www.host1.com/a", 40)
    assert good.text.encode() == PAGE % 2


def test_a_damaged_member_is_one_record_with_its_range_and_the_next_is_read(tmp_path):
    members = [gzip.compress(response(n, body=bytes(range(256)) * 20)) for n in range(4)]
    at = len(members[0]) + len(members[1]) // 2
    data = bytearray(b"".join(members))
    data[at : at + 20] = b"\xff" * 20
    found = read(tmp_path, bytes(data), "a.warc.gz")
    begin, end = len(members[0]), len(members[0]) + len(members[1])
    assert [bool(r.problem) for r in found] == [False, True, False, False]
    assert found[1].problem.startswith(f"truncated file: a.warc.gz offset {begin} (bytes {begin}-{end}): damaged gzip")


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_cut_anywhere_keeps_its_whole_records(tmp_path, packed):
    records = [gzip.compress(response(n)) if packed else response(n) for n in range(3)]
    data = b"".join(records)
    ends = [sum(map(len, records[: n + 1])) for n in range(3)]
    for cut in range(0, len(data) - 4, 7):
        found = read(tmp_path, data[:cut], "a.warc.gz" if packed else "a.warc")
        good = [r for r in found if not r.problem]
        complete = sum(end - (0 if packed else 4) <= cut for end in ends)  # the four bytes are blank lines
        assert len(good) - complete in ({0, 1} if packed else {0})  # a member may lack nothing but its checksum
        assert [r.text.encode() for r in good] == [PAGE % n for n in range(len(good))]
        starts = [0, *ends]
        if cut not in starts and not any(end - 4 <= cut <= end for end in ends):
            assert [r.problem.split(":")[0] for r in found if r.problem] in (["truncated file"], ["not a record"])


def arc(url, body, kind="text/html", length=None):
    size = len(body) if length is None else length
    return f"{url} 93.184.216.119 20140216050221 {kind} {size}\n".encode() + body + b"\n"


def test_arc_records_are_read_like_those_of_a_warc(tmp_path):
    about = b"1 0 Crawl\nURL IP-address Archive-date Content-type Archive-length\n"
    body = b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n" + PAGE % 1
    data = arc("filedesc://a.arc", about, "text/plain") + arc("http://a.com/x y?z=1", body)
    data += b"a line that is no head\n" + arc("http://b.com/", body)
    one, bad, two = read(tmp_path, data, "a.arc")
    assert (one.text.encode(), one.url, one.date) == (PAGE % 1, "http://a.com/x y?z=1", "2014-02-16T05:02:21Z")
    assert bad.problem.startswith("not a record")
    assert two.url == "http://b.com/"
    packed = gzip.compress(arc("filedesc://a.arc", about, "text/plain")) + gzip.compress(arc("http://a.com/", body))
    assert [r.text.encode() for r in read(tmp_path, packed, "a.arc.gz")] == [PAGE % 1]


@given(st.lists(st.binary(max_size=300), max_size=5), st.booleans())
def test_sound_files_are_read_as_fastwarc_reads_them(tmp_path_factory, bodies, packed):
    fastwarc = pytest.importorskip("fastwarc.warc")
    data = b"".join(
        gzip.compress(warc("resource", body, f"http://a.com/{n}"))
        if packed
        else warc("resource", body, f"http://a.com/{n}")
        for n, body in enumerate(bodies)
    )
    path = tmp_path_factory.mktemp("w") / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(data)
    theirs = [
        (r.headers["WARC-Target-URI"], r.reader.read())
        for r in fastwarc.ArchiveIterator(io.BytesIO(data), parse_http=False)
    ]
    assert [(c.headers["warc-target-uri"], c.block) for c in captures(path, path.name, LIMIT)] == theirs


PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [response(1), response(2)[:-9], b"WARC/1.0\r\n\r\n", b"WARC/1.0\r\nContent-Length: 9\r\n\r\n", b"\r\n\r\n"]
    ),
    st.sampled_from(
        [gzip.compress(response(3)), gzip.compress(response(4))[:-5], b"\x1f\x8b\x08\x00", arc("http://a.b/", b"x")]
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=6), st.sampled_from(["a.warc", "a.warc.gz", "a.arc", "a.arc.gz"]), st.booleans())
def test_arbitrary_bytes_end_in_records_or_reasons(tmp_path_factory, pieces, name, packed):
    data = b"".join(pieces)
    found = read(tmp_path_factory.mktemp("w"), gzip.compress(data) if packed else data, name)
    assert len(found) <= len(data) // 20 + 3
    if data.strip() and data.strip(b"\0"):
        kinds = {r.problem.split(":")[0] for r in found}
        assert kinds <= {"", "not a record", "truncated file", "no page", "too large", "not HTML", "invalid UTF-8"}
    assert len({r.uri for r in found if not r.problem}) == len([r for r in found if not r.problem])
