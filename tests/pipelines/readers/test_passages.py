"""Passages: every line of a long file stands in exactly one of them."""

import gzip

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.readers.passages import passage_records


def cut(folder, data, wanted=10, limit=1000, name="a.txt"):
    (folder / name).write_bytes(data)
    return list(passage_records(folder / name, name, wanted, limit))


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


TEXT = st.lists(st.sampled_from(["", "  ", "a", "bb bb", "ccc", "x" * 50]), max_size=40)


@settings(max_examples=60)
@given(TEXT, st.integers(1, 25), st.sampled_from(["\n", "\r\n"]))
def test_a_passage_stands_where_its_uri_says_and_is_long_enough(tmp_path_factory, written, wanted, newline):
    found = cut(tmp_path_factory.mktemp("p"), newline.join(written).encode(), wanted)
    starts = [record.position for record in found]
    assert starts == sorted(set(starts))
    for record, after in zip(found, [*starts, len(written) + 1][1:] if found else [], strict=True):
        assert record.uri == f"a.txt#L{record.position}"
        lines = [line.rstrip("\r") for line in record.text.split("\n")]
        here = written[record.position - 1 : after - 1]
        assert [line.rstrip() for line in lines] == [line.rstrip() for line in here[: len(lines)]]
        assert not any(line.strip() for line in here[len(lines) :])  # what is left out is blank
        assert record is found[-1] or sum(len(line) + len(newline) for line in here) >= wanted


def test_neighbouring_passages_are_one_group_and_the_thirty_third_begins_another(tmp_path):
    found = cut(tmp_path, b"".join(b"passage %d is here\n\n" % n for n in range(70)))
    assert len(found) == 70
    assert [record.group for record in found] == [f"a.txt#{n // 32}" for n in range(70)]


def test_a_passage_that_moves_down_keeps_its_text_and_so_its_id(tmp_path):
    """Passages have no key: an id is made of source and text, not of the place."""
    body = b"the first passage\n\nthe second passage\n\n"
    before, after = cut(tmp_path, body), cut(tmp_path, b"a new one before\n\n" + body)
    assert [(r.key, r.text) for r in after[1:]] == [(r.key, r.text) for r in before]
    assert [r.position for r in after[1:]] == [r.position + 2 for r in before]


def test_an_empty_file_and_one_of_blank_lines_have_no_passage(tmp_path):
    for data in (b"", b"\n\n  \n\t\n", b"\r\n"):
        assert cut(tmp_path, data) == []
