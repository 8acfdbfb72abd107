"""Every file of the shared development data is read or quarantined with a reason, and the counts add up."""

import os
from collections import Counter
from pathlib import Path

import pytest

from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.provenance.fates import check_conservation
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.readers import crawl
from pipelines.sources import IngestRecipe, listing, source_records

DATA = Path(os.environ.get("STEMMA_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared/data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared development data are not at {DATA}")

CRAWLS = sorted(p.relative_to(DATA).as_posix() for p in (DATA / "web/warc").rglob("*") if p.is_file())
CORPORA = [
    ("wikipedia", "corpora/wikipedia", {}, {"kept": 106}),
    ("jsonl", "corpora/planted/documents.jsonl.zst", {}, {"kept": 8080}),
    ("jsonl", "corpora/books/books.jsonl.zst", {}, {"kept": 28}),
    ("text", "corpora/books/raw", {"passage_bytes": 2000}, {"kept": 235}),
    ("jsonl", "corpora/udhr2", {}, {"kept": 193, "seen": 194}),
    ("parquet", "corpora/speeches", {"id_field": "id"}, {"kept": 124}),
    ("text", "corpora/tinyshakespeare", {}, {"kept": 1}),
    ("jsonl", "corpora/wikitext2", {"text_field": "page"}, {"kept": 60}),
    ("text", "corpora/wikitext2", {}, {"kept": 1}),
    ("jsonl", "web/ccnet", {}, {"kept": 20}),
]  # fmt: skip
# kept documents and quarantined ones; the others hold no page (WAT, digests of requests)
CRAWLED = {
    "dolma/sample-0000.warc.gz": (24, 0),
    "warcio/bad.arc": (0, 3),
    "warcio/example-bad-non-chunked.warc.gz": (1, 0),
    "warcio/example-bad.warc.gz.bad": (1, 1),
    "warcio/example-digest.warc": (0, 0),
    "warcio/example-iana.org-chunked.warc": (1, 0),
    "warcio/example-resource.warc.gz": (1, 0),
    "warcio/example-space-in-target-uri.warc.gz": (0, 1),
    "warcio/example-space-in-url.arc": (0, 1),
    "warcio/example-trunc.warc": (1, 1),
    "warcio/example-wget-bad-target-uri.warc.gz": (3, 0),
    "warcio/example-wrong-chunks.warc.gz": (1, 0),
    "warcio/example.arc": (1, 0),
    "warcio/example.arc.gz": (1, 0),
    "warcio/example.warc": (1, 0),
    "warcio/example.warc.gz": (1, 0),
    "warcio/post-test.warc.gz": (0, 3),
    "whirlwind-python/whirlwind.warc": (1, 0),
    "whirlwind-python/whirlwind.warc.gz": (1, 0),
    "whirlwind-python/whirlwind.warc.wat.gz": (0, 0),
    "whirlwind-python/whirlwind.warc.wet": (1, 0),
    "whirlwind-python/whirlwind.warc.wet.gz": (1, 0),
}


def recipe(reader, **others):
    return IngestRecipe(reader=reader, source="shared", snapshot="1", **others)


@pytest.mark.parametrize("name", CRAWLS)
def test_a_crawl_is_read_or_quarantined(monkeypatch, name):
    monkeypatch.setattr(crawl, "page_record", lambda place, payload, *others: place._replace(text=repr(payload)))
    found = list(source_records(recipe("warc"), listing(recipe("warc"), DATA / name)))
    counts = Counter(bool(record.problem) for record in found)
    assert (counts[False], counts[True]) == CRAWLED[name.removeprefix("web/warc/")]
    assert all(record.raw for record in found if record.problem)


@pytest.mark.parametrize(("reader", "path", "fields", "expected"), CORPORA)
def test_a_corpus_is_taken_in_and_its_counts_add_up(tmp_path, reader, path, fields, expected):
    store, said = Store(tmp_path / "s"), recipe(reader, **fields)
    key = Key("raw_documents", "shared/1")
    artifact = build(store, key, INGEST_VERSION, said, [], lambda d: ingest(said, d, path=DATA / path)).artifact
    check_conservation(artifact.counts)
    assert {name: artifact.counts[name] for name in expected} == expected
