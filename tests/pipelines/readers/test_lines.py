"""Lines: every byte stands in exactly one of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.readers.lines import lines


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 9), st.booleans())
def test_every_byte_is_in_exactly_one_line_whatever_the_chunks(tmp_path_factory, parts, chunk_bytes, ends):
    folder = tmp_path_factory.mktemp("lines")
    data = b"\n".join(parts) + (b"\n" if ends else b"")
    data = data.removeprefix(b"\xef\xbb\xbf")
    (folder / "f").write_bytes(data)
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
