"""Wikipedia: articles of a dump page by page, prose without markup, and broken pages that spoil no other."""

import bz2
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.readers.wikipedia import wikipedia_records
from pipelines.readers.wikitext import plain_text

HEAD = (
    '<mediawiki version="0.10" xml:lang="de"><siteinfo><base>https://de.wikipedia.org/wiki/Hauptseite</base>'
    '<namespaces><namespace key="6" case="first-letter">Datei</namespace><namespace key="0" /></namespaces></siteinfo>\n'
)


def page(number, text="Some text.", ns=0, extra=""):
    return (
        f"  <page>\n<title>Title {number}</title><ns>{ns}</ns><id>{number}</id>{extra}<revision><id>9</id>"
        f"<timestamp>2026-11-01T00:00:00Z</timestamp><text>{escape(text)}</text></revision>\n  </page>\n"
    )


def read(folder, data, name="dump.xml", limit=100_000):
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(wikipedia_records(folder / name, name, limit))


def test_articles_keep_number_title_address_date_and_language(tmp_path):
    [found] = read(tmp_path, HEAD + page(7, "'''Bold''' & [[Datei:x.png|thumb|caption]]plain") + "</mediawiki>")
    assert (found.text, found.key, found.title) == ("Bold & plain", "7", "Title 7")
    assert (found.url, found.date) == ("https://de.wikipedia.org/wiki/Title_7", "2026-11-01T00:00:00Z")
    assert (found.language, len(found.raw)) == ("de", 40)


def test_redirects_and_other_namespaces_are_no_documents(tmp_path):
    pages = page(1) + page(2, ns=1) + page(3, "#REDIRECT [[A]]", extra='<redirect title="A" />') + page(4)
    assert [r.key for r in read(tmp_path, HEAD + pages + "</mediawiki>")] == ["1", "4"]


def test_a_multistream_dump_names_the_stream_and_the_bytes_in_it(tmp_path):
    streams = [bz2.compress(part.encode()) for part in (HEAD, page(1) + page(2), page(3), "</mediawiki>")]
    found = read(tmp_path, b"".join(streams), "d.xml.bz2")
    second = len(streams[0])
    assert [r.key for r in found] == ["1", "2", "3"]
    assert found[0].uri == f"d.xml.bz2#offset={second}&skip=2"
    assert found[1].uri == f"d.xml.bz2#offset={second}&skip={2 + len(page(1))}"
    assert found[2].position == second + len(streams[1])


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("<page><title>unclosed</page>", "not XML"),
        ("<page><title>no end", "truncated file"),
        ("<page>&undefined;</page>", "not XML"),
        ("garbage", "not a page"),
        ("<page>" + "x" * 5000 + "</page>", "too large"),
    ],
)
def test_a_broken_page_is_one_record_and_the_next_is_read(tmp_path, broken, kind):
    found = read(tmp_path, HEAD + page(1) + broken + page(2) + "</mediawiki>", limit=4000)
    assert [r.key or r.problem.split(":")[0] for r in found] == ["1", kind, "2"]


def test_a_damaged_stream_is_one_record_with_its_range_and_the_next_is_read(tmp_path):
    streams = [bz2.compress(part.encode()) for part in (HEAD, page(1), page(2), page(3))]
    begin, end = len(streams[0]), len(streams[0] + streams[1])
    data = bytearray(b"".join(streams))
    data[begin + 40 : begin + 60] = b"\xff" * 20
    found = read(tmp_path, bytes(data), "d.xml.bz2")
    assert [r.key or r.problem.split(" (Inv")[0] for r in found][1:] == ["2", "3"]
    assert found[0].problem.startswith(f"truncated file: d.xml.bz2 offset {begin} (bytes {begin}-{end}): damaged bz2")


@settings(max_examples=60)
@given(st.integers(0, 4000), st.booleans())
def test_a_dump_that_is_cut_anywhere_keeps_its_whole_pages(tmp_path_factory, cut, packed):
    parts = [HEAD, *(page(n) for n in range(5))]
    streams = [bz2.compress(p.encode()) if packed else p.encode() for p in parts]
    found = read(tmp_path_factory.mktemp("w"), b"".join(streams)[:cut], "d.xml.bz2" if packed else "d.xml")
    good = [r.key for r in found if not r.problem]
    assert good == [str(n) for n in range(len(good))]
    assert len(found) - len(good) <= 1
    if cut >= sum(map(len, streams)):
        assert len(good) == 5


@settings(max_examples=100)
@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"<page>", b"</page>", page(1).encode(), HEAD.encode()]), max_size=8
    )
)
def test_arbitrary_bytes_end_in_records_or_reasons(tmp_path_factory, pieces):
    data = b"".join(pieces)
    found = read(tmp_path_factory.mktemp("w"), data)
    assert len(found) <= 2 * data.count(b"<page>") + 1
    if data.strip() and b"<mediawiki" not in data and b"<page>" not in data and data.strip() != b"</mediawiki>":
        assert [r.problem.split(":")[0] for r in found] == ["not a page"]


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Anarchism''' is a [[political philosophy|philosophy]] of [[self-governance]].<ref>A book</ref>",
         "Anarchism is a philosophy of self-governance."),
        ("{{Infobox|name=x}}A city ({{lang-de|Stadt}}) in [[Europe]].", "A city in Europe."),
        ("It is {{convert|5|km|mi}} long, in {{lang|fr|la ville}}.", "It is 5 km long, in la ville."),
        ("{| class=x\n| a || b\n|}\nAfter the table.", "After the table."),
        ("== One ==\nText.\n\n== Empty ==\n=== Also empty ===\n== References ==\n<references/>", "One\nText."),
        ("* first\n* second\n# third\n: fourth", "first\nsecond\nthird\nfourth"),
        ("[[File:a.jpg|thumb|A [[nested]] caption]]Text[[Category:Things]][[fr:Texte]]", "Text"),
        ("See [http://a.b/ the site] or [[:Category:Things]].<!-- hidden -->", "See the site or Category:Things."),
        ("a&nbsp;b &amp; c<br/>d __NOTOC__ <math>x^2</math>", "a b & c\nd x^2"),
        ("{{unclosed and [[broken|link", "{{unclosed and [[broken|link"),
        ("", ""),
    ],
)  # fmt: skip
def test_wikitext_becomes_prose(wikitext, text):
    assert plain_text(wikitext) == text


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("[]{}|='<>/ref!-:*#&;\n aé"), max_size=60))
def test_no_wikitext_crashes(wikitext):
    assert isinstance(plain_text(wikitext), str)
