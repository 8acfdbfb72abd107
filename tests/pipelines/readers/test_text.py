"""Text files: a file is a record."""

import gzip

from pipelines.readers.text import text_records

LIMIT = 1 << 20


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfHello")
    assert next(text_records(tmp_path / "a.txt", "a.txt", LIMIT)).text == "Hello"


def test_text_files_are_documents_with_their_path_as_key(tmp_path):
    (tmp_path / "a.md").write_text("# Title\n")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"hello hello")[:-3])
    (tmp_path / "d.txt").write_bytes(b"x" * 2000)
    found = {n: next(text_records(tmp_path / n, n, 1000)) for n in ("a.md", "b.txt", "c.txt.gz", "d.txt")}
    assert (found["a.md"].text, found["a.md"].key, found["a.md"].group) == ("# Title\n", "a.md", "a.md")
    kinds = [found[n].problem.split(":")[0] for n in ("b.txt", "c.txt.gz", "d.txt")]
    assert kinds == ["invalid UTF-8", "truncated file", "too large"]
