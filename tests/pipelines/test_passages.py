"""Passages: every line of a long file stands in exactly one of them."""

import gzip

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.passages import passage_records


def cut(folder, data, wanted=10, limit=1000, name="a.txt"):
    (folder / name).write_bytes(data)
    return list(passage_records(folder, name, wanted, limit))


def test_a_file_is_cut_at_blank_lines_once_a_passage_is_long_enough(tmp_path):
    found = cut(tmp_path, b"\n\nTitle\n\nFirst paragraph\ngoes on.\n\n\nSecond paragraph.\n\nEnd")
    assert [r.text for r in found] == ["Title\n\nFirst paragraph\ngoes on.", "Second paragraph.", "End"]
    assert [r.uri for r in found] == ["a.txt#L3", "a.txt#L9", "a.txt#L11"]
    assert {r.group for r in found} == {"a.txt#0"}


def test_a_file_without_blank_lines_is_cut_at_line_ends(tmp_path):
    found = cut(tmp_path, b"0123456789\n" * 48)
    assert [r.text.count("\n") + 1 for r in found] == [16, 16, 16]


def test_bad_bytes_long_lines_and_torn_ends_spoil_only_their_own_passage(tmp_path):
    found = cut(tmp_path, b"a good passage\n\nbad \xff bytes here\n\n" + b"x" * 2000 + b"\nanother good one")
    assert [r.problem.split(":")[0] for r in found] == ["", "invalid UTF-8", "too large", ""]
    assert found[1].problem == "invalid UTF-8: a.txt lines 3-3 (bytes 16-32), byte 20"
    whole = gzip.compress(b"".join(b"passage number %d\n\n" % n for n in range(5000)))
    *good, bad = cut(tmp_path, whole[:-20], name="b.txt.gz")
    assert bad.problem.startswith("truncated file: b.txt.gz line ")
    assert [r.text for r in good] == [f"passage number {n}" for n in range(len(good))]
    assert good[-1].group != good[0].group


@settings(max_examples=60)
@given(st.lists(st.text(st.sampled_from("ab \n"), max_size=30), max_size=6), st.integers(1, 40))
def test_no_visible_character_is_lost_or_doubled(tmp_path_factory, parts, wanted):
    data = "\n".join(parts)
    found = cut(tmp_path_factory.mktemp("p"), data.encode(), wanted)
    assert "".join("".join(r.text.split()) for r in found) == "".join(data.split())
    assert all(len(r.text.split()) for r in found)
