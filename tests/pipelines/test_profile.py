"""The profile of a source: ten records whose every number is known, the same bytes twice, and a page that is safe."""

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.clean import CLEAN_VERSION, clean
from pipelines.clean_recipe import CleanRecipe, docs
from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.profile.alignment import side_by_side
from pipelines.profile.measure import (
    DIMENSIONS,
    PAGE,
    PROFILE,
    PROFILE_VERSION,
    SIGNAL_COUNTS,
    ProfileRecipe,
    hosts,
    length_bins,
    names_of,
    profile,
    read_profile,
)
from pipelines.profile.signal_counts import bounds
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.sources import IngestRecipe

GOOD = "The function returns the mean of the values that have been given to it, and the number of them, with care. "
GERMAN = "Die Funktion gibt den Mittelwert der Werte zurück, die ihr übergeben wurden, und außerdem deren Anzahl. "
MAIL = GOOD * 2 + "Ask jane@doe.org or joe@doe.org, or come to 81.2.69.142 yourself.\n"
RECORDS = [
    {"text": GOOD, "license": "MIT", "url": "https://www.Example.org/a"},
    {"text": GOOD * 2, "license": "MIT", "url": "http://user:pass@example.org:8080/b?c=d"},
    {"text": GOOD * 3, "license": "MIT", "url": "https://docs.example.net"},
    {"text": GOOD * 5, "license": "CC0-1.0", "url": "https://example.org"},
    {"text": MAIL, "license": "CC0-1.0", "url": ""},
    {"text": GERMAN * 3, "license": "CC0-1.0", "url": "https://example.de/"},
    {"text": "Too short.", "license": "MIT", "url": "https://example.com/x"},
    {"text": "Of it the.", "license": "MIT", "url": "https://example.com/y"},
    {"text": "  ", "license": "MIT", "url": "https://example.com/z"},
]
LINES = [*(json.dumps(record) for record in RECORDS), '{"text": "torn']


def cleaning(**fields) -> CleanRecipe:
    return docs().model_copy(update={"min_words": 12, "min_stop_words": 0, "language": "", **fields})


def ingested(root, lines=LINES, files=1):
    store = Store(root)
    folder = root / f"in-{files}"
    folder.mkdir(parents=True)
    for n in range(files):
        (folder / f"{n}.jsonl").write_text(
            "\n".join(lines[n * len(lines) // files : (n + 1) * len(lines) // files]) + "\n"
        )
    recipe = IngestRecipe(reader="jsonl", source="mine", snapshot="1", license_field="license", url_field="url")
    key = Key("raw_documents", "mine/1")
    return store, build(store, key, INGEST_VERSION, recipe, [], lambda d: ingest(recipe, d, path=folder)).artifact


def profiled(root, lines=LINES, recipe=None, top=50, files=1):
    store, raw = ingested(root, lines, files)
    recipe = recipe or cleaning()
    key = Key("clean_documents", "mine/1")
    cleaned = build(store, key, CLEAN_VERSION, recipe, [raw], lambda d: clean(raw, recipe, d)).artifact
    told = ProfileRecipe(top_domains=top)
    key = Key("source_profile", "mine/1")
    made = build(store, key, PROFILE_VERSION, told, [raw, cleaned], lambda d: profile(raw, cleaned, told, d))
    return made.artifact


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    return profiled(tmp_path_factory.mktemp("ten"))


def numbers(artifact, dimension, column="docs"):
    return names_of(read_profile(artifact)[0], dimension, column)


def size(text: str) -> int:
    return len(text.strip().encode())


def test_ten_records_are_counted_by_fate_and_reason(ten):
    assert numbers(ten, "fate") == {"dropped": 3, "kept": 6, "quarantined": 1}
    assert numbers(ten, "reason") == {"dropped: empty": 1, "dropped: too_short": 2, "quarantined: not JSON": 1}
    assert numbers(ten, "reason", "num_bytes")["dropped: too_short"] == len("Too short.") + len("Of it the.")
    assert numbers(ten, "reason", "num_words")["dropped: too_short"] == 2 + 3


def test_all_that_came_in_has_a_fate_and_all_that_was_read_a_length(ten):
    raw = ten.input("raw_documents")
    assert sum(numbers(ten, "fate").values()) == raw.counts["seen"] == 10
    assert sum(numbers(ten, "fate", "num_bytes").values()) == raw.counts["num_bytes"]
    assert sum(numbers(ten, "length_in").values()) == raw.counts["kept"] == 8


def test_what_was_kept_is_the_same_by_length_language_and_licence(ten):
    clean_counts = ten.input("clean_documents").counts
    for dimension in ("length", "language", "licence"):
        assert sum(numbers(ten, dimension).values()) == clean_counts["docs"] == 6
        assert sum(numbers(ten, dimension, "num_bytes").values()) == clean_counts["num_bytes_out"]
    assert ten.counts["num_bytes"] == clean_counts["num_bytes_out"]


def test_lengths_stand_in_bins_that_double(ten):
    words = len(re.findall(r"\w+", GOOD))
    assert words == 21
    assert numbers(ten, "length_in") == {"2-3": 2, "16-31": 1, "32-63": 4, "64-127": 1}
    assert numbers(ten, "length") == {"16-31": 1, "32-63": 4, "64-127": 1}
    assert length_bins(pa.array([0, 1, 2, 3, 4, 7, 8, 1023, 1024])).to_pylist() == [
        "0", "1", "2-3", "2-3", "4-7", "4-7", "8-15", "512-1023", "1024-2047",
    ]  # fmt: skip


def test_licences_are_told_by_document_byte_and_word(ten):
    assert numbers(ten, "licence") == {"CC0-1.0": 3, "MIT": 3}
    assert numbers(ten, "licence", "num_bytes")["MIT"] == sum(size(GOOD * n) for n in (1, 2, 3))
    assert numbers(ten, "licence", "num_words")["MIT"] == 21 * 6


def test_languages_keep_their_numbers_apart(ten):
    assert numbers(ten, "language") == {"de": 1, "en": 5}
    table, _ = read_profile(ten)
    rows = [row for row in table.to_pylist() if row["dimension"] == "licence" and row["name"] == "CC0-1.0"]
    assert {row["language"]: row["docs"] for row in rows} == {"de": 1, "en": 2}


def test_masked_places_are_counted_by_kind_and_their_documents_once(ten):
    assert numbers(ten, "masked", "places") == {"masked_email": 2, "masked_ip": 1}
    assert numbers(ten, "masked") == {"masked_email": 1, "masked_ip": 1}
    counts = ten.input("clean_documents").counts
    assert numbers(ten, "masked", "places") == {name: counts[name] for name in ("masked_email", "masked_ip")}


def test_hosts_are_told_without_www_port_and_user(ten):
    assert numbers(ten, "domain") == {"docs.example.net": 1, "example.de": 1, "example.org": 3}
    assert ten.counts["domains"] == 3


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example/b", "a.example"),
        ("HTTPS://WWW.A.Example./b", "a.example"),
        ("http://me:secret@a.example:81?x", "a.example"),
        ("http://a.example@b.example/", "b.example"),
        ("http://[2001:db8::1]:80/", "[2001:db8::1]"),
        ("ftp://a.example#x", "a.example"),
        ("a.example/b", ""),
        ("mailto:me@a.example", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_the_host_of_a_url(url, host):
    assert hosts(pa.array([url], pa.string())).to_pylist() == [host]


def test_the_hosts_of_most_documents_are_told_and_the_others_counted(tmp_path):
    artifact = profiled(tmp_path, top=1)
    assert numbers(artifact, "domain") == {"example.org": 3}
    assert artifact.counts["domains"] == 3


def test_many_hosts_are_counted_in_pieces_with_the_same_result(tmp_path, monkeypatch, ten):
    monkeypatch.setattr("pipelines.profile.measure._COMPACT", 1)
    assert numbers(profiled(tmp_path), "domain") == numbers(ten, "domain")


def test_places_that_were_cut_are_no_masks(tmp_path):
    text = GOOD + "\n" + GOOD + "\nWe use cookies.\n" + GOOD
    recipe = cleaning(c4=True, min_sentences=1)
    artifact = profiled(tmp_path, [json.dumps({"text": text, "license": "MIT", "url": ""})], recipe)
    assert numbers(artifact, "cut", "places")["c4_policy"] == 1
    assert numbers(artifact, "masked") == {}
    spans = artifact.input("clean_documents").table("spans.arrow")["rule"].to_pylist()
    assert sum(numbers(artifact, "cut", "places").values()) == len(spans)


def test_a_signal_is_counted_on_both_sides_of_its_bound(ten):
    _, signals = read_profile(ten)
    rows = [row for row in signals.to_pylist() if row["signal"] == "num_words"]
    assert sum(row["kept"] for row in rows) == 6
    assert [(row["low"], row["dropped"]) for row in rows if row["dropped"]] == [(2.0, 1), (3.0, 1)]
    assert {row["signal"] for row in signals.to_pylist()} == {b.signal for b in bounds(ten.input("clean_documents"))}
    for signal in {row["signal"] for row in signals.to_pylist()}:
        counted = [row["kept"] + row["dropped"] for row in signals.to_pylist() if row["signal"] == signal]
        assert sum(counted) == 8, signal


def test_the_same_source_gives_the_same_bytes_anywhere(tmp_path):
    one, two = profiled(tmp_path / "a"), profiled(tmp_path / "b" / "deeper")
    assert one.digest == two.digest
    for name in (PROFILE, SIGNAL_COUNTS, PAGE):
        assert one.local(name).read_bytes() == two.local(name).read_bytes()


def test_how_records_are_spread_over_files_changes_nothing(tmp_path, ten):
    assert profiled(tmp_path, files=3).content == ten.content


def test_the_order_of_records_changes_nothing(tmp_path, ten):
    assert profiled(tmp_path, LINES[::-1]).content == ten.content


def test_the_parquet_file_says_who_wrote_it_and_nothing_else_that_varies(ten):
    metadata = pq.read_metadata(ten.local(PROFILE))
    assert metadata.metadata is None
    assert metadata.created_by.startswith("parquet-cpp-arrow version ")
    columns = [metadata.row_group(0).column(n) for n in range(metadata.num_columns)]
    assert {column.compression for column in columns} == {"UNCOMPRESSED"}


def test_rows_come_by_dimension_then_name(ten):
    table, _ = read_profile(ten)
    order = [DIMENSIONS.index(name) for name in table["dimension"].to_pylist()]
    assert order == sorted(order)
    assert set(table["source"].to_pylist()) == {"mine/1"}


def test_a_source_of_which_nothing_is_kept_has_a_profile(tmp_path):
    artifact = profiled(tmp_path, LINES[6:])
    assert numbers(artifact, "fate") == {"dropped": 3, "quarantined": 1}
    assert artifact.counts["docs"] == artifact.counts["num_bytes"] == 0
    assert "Why documents went" in artifact.local(PAGE).read_text()


class Page(HTMLParser):
    """Elements and addresses of a page, and its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action") or name.startswith("on")]


def test_the_page_needs_nothing_and_runs_nothing(ten):
    text = ten.local(PAGE).read_text()
    page = Page(text)
    assert "svg" in page.tags
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "img", "form", "base"}
    assert page.addresses == []
    assert "default-src 'none'" in text
    assert re.findall(r"https?://[^'\"]+", text) == ["http://www.w3.org/2000/svg"] * text.count("<svg")


def test_the_page_draws_every_bound_of_the_recipe(ten):
    text = ten.local(PAGE).read_text()
    for bound in bounds(ten.input("clean_documents")):
        assert f">{bound.signal}</figcaption>" in text
    assert text.count("stroke-dasharray") >= len(bounds(ten.input("clean_documents")))
    assert "too_short &lt; 12" in text


def test_names_that_look_like_markup_are_text_on_the_page(tmp_path):
    licence = "LicenseRef-x</text><script>alert(1)</script>&\u202e\x07"
    lines = [json.dumps({"text": GOOD, "license": licence, "url": "http://<img src=x onerror=1>/"})]
    text = profiled(tmp_path, lines).local(PAGE).read_text()
    assert not Page(text).tags & {"script", "img"}
    assert not set(text) & {"\u202e", "\x07"}
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)


def test_nothing_of_a_masked_value_is_in_the_profile(ten):
    for name in (PROFILE, SIGNAL_COUNTS, PAGE):
        data = ten.local(name).read_bytes()
        for value in (b"jane", b"joe@", b"81.2.69", b"user:pass"):
            assert value not in data


def test_tables_that_are_cut_differently_are_read_side_by_side():
    table = pa.table({"n": list(range(10))})
    one = iter([table.slice(0, 3), table.slice(3, 0), table.slice(3)])
    two = iter([table.slice(0, 5), table.slice(5, 4), table.slice(9)])
    pairs = list(side_by_side(one, two))
    assert [pair[0]["n"].to_pylist() for pair in pairs] == [[0, 1, 2], [3, 4], [5, 6, 7, 8], [9]]
    assert all(pair[0].equals(pair[1]) for pair in pairs)
    assert list(side_by_side(iter([]), iter([]))) == []


@pytest.mark.parametrize("rows", [0, 9, 11])
def test_tables_with_other_numbers_of_rows_are_refused(rows):
    tables = [pa.table({"n": list(range(size))}) for size in (10, rows)]
    with pytest.raises(ValueError, match="not the same number"):
        list(side_by_side(*(iter([t] if t.num_rows else []) for t in tables)))


def test_the_profile_of_other_documents_is_refused(tmp_path):
    _, other = ingested(tmp_path / "other", [json.dumps({"text": GOOD + str(n), "license": "MIT"}) for n in range(8)])
    artifact = profiled(tmp_path / "one")
    with pytest.raises(AssertionError, match="other documents"):
        profile(other, artifact.input("clean_documents"), ProfileRecipe(), draft=None)  # type: ignore[arg-type]


def test_the_rows_have_a_digest_that_the_files_format_does_not_touch(ten):
    assert re.fullmatch("[0-9a-f]{64}", ten.manifest.rows)
    assert ten.manifest.rows != hashlib.sha256(ten.local(PROFILE).read_bytes()).hexdigest()
