"""Lines: every byte stands in exactly one of them."""

import gzip
import tracemalloc

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.readers.lines import lines, spans
from pipelines.readers.streams import compression


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 9), st.booleans())
def test_every_byte_is_in_exactly_one_line_whatever_the_chunks(tmp_path_factory, parts, chunk_bytes, ends):
    folder = tmp_path_factory.mktemp("lines")
    data = b"\n".join(parts) + (b"\n" if ends else b"")
    data = data.removeprefix(b"\xef\xbb\xbf")
    (folder / "f").write_bytes(data)
    assume(not compression(folder / "f"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.readers.streams.CHUNK_BYTES", chunk_bytes)
        found = list(lines(folder / "f", 1000))
    expected = data.split(b"\n")
    assert [line.data for line in found] == (expected if expected[-1] else expected[:-1])
    for line in found:
        assert data[line.offset : line.offset + line.size] == line.data


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 4, 100])
def test_a_byte_order_mark_belongs_to_no_line_however_the_file_is_read(tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr("pipelines.readers.streams.CHUNK_BYTES", chunk_bytes)
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfone\ntwo")
    assert [(line.offset, line.data) for line in lines(tmp_path / "f", 10)] == [(3, b"one"), (7, b"two")]
    (tmp_path / "f").write_bytes(b"\xef\xbb")
    assert [(line.offset, line.data) for line in lines(tmp_path / "f", 10)] == [(0, b"\xef\xbb")]


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=30), max_size=12), st.integers(1, 9), st.integers(1, 60), st.booleans())
def test_the_lines_of_all_spans_are_those_of_the_file(tmp_path_factory, parts, chunk_bytes, span_bytes, is_marked):
    path = tmp_path_factory.mktemp("lines") / "f"
    path.write_bytes((b"\xef\xbb\xbf" if is_marked else b"") + b"\n".join(parts))
    assume(not compression(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.readers.streams.CHUNK_BYTES", chunk_bytes)
        cut = spans(path, span_bytes)
        apart = [line for span in cut for line in lines(path, 20, span)]
        assert not cut or apart == list(lines(path, 20))
    size = path.stat().st_size
    assert bool(cut) == (size >= 2 * span_bytes)
    assert [span.stop for span in cut[:-1]] == [span.start for span in cut[1:]]
    assert all(span.stop - span.start >= span_bytes for span in cut[:-1])


def test_a_compressed_file_has_no_spans_whatever_its_name(tmp_path):
    for name in ("f.gz", "f"):
        (tmp_path / name).write_bytes(gzip.compress(b"".join(b"%d\n" % n for n in range(9999))))
        assert spans(tmp_path / name, 10) == []


def test_a_line_beyond_every_bound_is_one_span_in_bounded_memory(tmp_path):
    with (tmp_path / "f").open("wb") as file:
        for _ in range(64):  # MiB
            file.write(b"a" * (1 << 20))
        file.write(b"\nb\n")
    tracemalloc.start()
    cut = spans(tmp_path / "f", 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cut == [(0, (64 << 20) + 3, 1)]
    assert peak < 8 << 20


def test_a_file_that_became_shorter_since_it_was_cut_is_an_error(tmp_path):
    (tmp_path / "f").write_bytes(b"one\ntwo\nthree\nfour\n")
    cut = spans(tmp_path / "f", 8)
    (tmp_path / "f").write_bytes(b"one\ntwo\nth")
    with pytest.raises(ValueError, match=r"ends at byte 10, and had 19 when it was cut.*run again"):
        [line for span in cut for line in lines(tmp_path / "f", 20, span)]
