"""Streams: bounded pieces, torn ends that say so, and no file that is blown up without limit."""

import bz2
import gzip
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.readers import streams
from pipelines.readers.streams import MAGIC, Stream, TornError, chunks, compression, whole

PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstandard.compress, "": bytes}


def pieces_of(path):
    """What the file gives out, and why it ends too early, if it does."""
    found, torn = [], ""
    try:
        found.extend(chunks(path))
    except TornError as error:
        torn = str(error)
    return found, torn


@pytest.mark.parametrize("suffix", PACKERS)
@given(parts=st.lists(st.binary(max_size=300), max_size=4), cut=st.integers(0, 30))
def test_members_are_joined_and_a_torn_one_gives_what_it_held(tmp_path_factory, suffix, parts, cut):
    path = tmp_path_factory.mktemp("s") / f"f{suffix}"
    packed = b"".join(PACKERS[suffix](part) for part in parts)
    assume(suffix or not packed.startswith(tuple(MAGIC)))  # the first bytes of a compressed file make it one
    path.write_bytes(packed)
    found, torn = pieces_of(path)
    assert (b"".join(found), torn) == (b"".join(parts), "")
    path.write_bytes(packed[: max(0, len(packed) - cut)])
    found, torn = pieces_of(path)
    assert b"".join(parts).startswith(b"".join(found))
    if suffix and not torn:
        whole_members = [b"".join(parts[:n]) for n in range(len(parts) + 1)]
        assert b"".join(found) in whole_members


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_what_is_blown_up_a_thousand_times_is_torn_within_bounded_memory(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(streams, "MIN_BLOWN_BYTES", 1 << 20)
    path = tmp_path / f"bomb{suffix}"
    packers = {
        ".gz": zlib.compressobj(9, wbits=31),
        ".bz2": bz2.BZ2Compressor(),
        ".zst": zstandard.ZstdCompressor().compressobj(),
    }
    packer, zeros = packers[suffix], bytes(1 << 20)
    path.write_bytes(b"".join([*(packer.compress(zeros) for _ in range(300)), packer.flush()]))
    tracemalloc.start()
    size, torn = 0, ""
    try:
        for chunk in chunks(path):
            size += len(chunk)
    except TornError as error:
        torn = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20
    if suffix == ".gz":  # it cannot do much more than 1,030
        assert "more than 1000 times" in torn or size == 300 << 20
    else:
        assert "more than 1000 times its compressed size" in torn


def test_a_file_of_ordinary_repetition_is_read_to_its_end(tmp_path):
    text = b"the same line again and again\n" * 200_000
    (tmp_path / "f.gz").write_bytes(gzip.compress(text))
    assert b"".join(chunks(tmp_path / "f.gz")) == text


def test_no_piece_is_larger_than_a_mebibyte_however_well_it_was_packed(tmp_path):
    for suffix in (".gz", ".bz2", ""):
        (tmp_path / f"f{suffix}").write_bytes(PACKERS[suffix](bytes(20 << 20)))
        sizes = [len(chunk) for chunk in chunks(tmp_path / f"f{suffix}")]
        assert (max(sizes), sum(sizes)) == (1 << 20, 20 << 20)


def test_a_member_tells_where_in_the_file_it_began(tmp_path):
    first, second = gzip.compress(b"one"), gzip.compress(b"two")
    (tmp_path / "f.gz").write_bytes(first + second)
    stream = Stream(tmp_path / "f.gz")
    assert [(stream.member, piece) for piece in stream] == [(0, b"one"), (len(first), b"two")]
    assert list(Stream(tmp_path / "f.gz", len(first))) == [b"two"]


def test_the_compression_is_told_by_name_or_by_the_first_bytes(tmp_path):
    for name, data, expected in [
        ("a.jsonl.GZ", b"", ".gz"),
        ("a", gzip.compress(b"x", mtime=0), ".gz"),
        ("b", zstandard.compress(b"x"), ".zst"),
        ("c", bz2.compress(b"x"), ".bz2"),
        ("d", b"BZh is how this text begins", ""),
        ("e", b"", ""),
    ]:
        (tmp_path / name).write_bytes(data)
        assert compression(tmp_path / name) == expected


def test_a_whole_file_beyond_the_limit_is_hashed_and_counted(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 1001)
    assert whole(tmp_path / "f", 1001).data == b"x" * 1001
    found = whole(tmp_path / "f", 1000)
    assert (found.data, found.size, len(found.raw)) == (None, 1001, 40)


@settings(max_examples=80)
@given(st.sampled_from([".gz", ".bz2", ".zst"]), st.binary(max_size=400))
def test_bytes_that_are_no_compressed_file_end_in_one_reason(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("s") / f"f{suffix}"
    path.write_bytes(data)
    found, torn = pieces_of(path)
    assert found == [] or torn or suffix == ".zst"
    assert bool(torn) or not data.strip(b"\0") or suffix == ".zst"
