import gzip
import json
import signal
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.readers import html as html_module
from pipelines.readers.html import HtmlRecipe, Page, TimeLimitError, extract, time_limit

PROSE = (
    "The river rose in the night, and by the morning the lower meadows stood under a foot of brown water. "
    "Nobody in the village could remember a flood as early in the year as this one."
)
NAVIGATION = "".join(f'<li><a href="/{n}">Section {n}</a></li>' for n in range(9))
PAGE = f"""<!DOCTYPE html><html lang="en-GB"><head><title>Flood | The Valley</title>
<meta property="article:published_time" content="2019-05-03T07:00:00Z"></head><body>
<nav><ul>{NAVIGATION}</ul></nav>
<article><h1>Flood</h1><p>{PROSE}</p><p>{PROSE[::-1]}</p><p>{PROSE.upper()}</p></article>
<div class="cookie-banner"><p>{PROSE.replace("river", "cookie")}</p></div>
<footer><p>All rights reserved.</p></footer></body></html>"""
CRAWL, DEFAULT = HtmlRecipe(extractor="resiliparse"), HtmlRecipe()

both = pytest.mark.parametrize("recipe", [DEFAULT, CRAWL], ids=lambda r: r.extractor)


@both
def test_the_article_is_kept_and_navigation_and_footer_are_not(recipe):
    page = extract(PAGE.encode(), recipe, url="https://valley.example/flood")
    assert PROSE in page.text
    assert PROSE.upper() in page.text
    assert "Section" not in page.text
    assert "rights" not in page.text
    assert (page.title, page.date, page.language) == ("Flood | The Valley", "2019-05-03", "en-gb")
    assert page.links[:2] == ("https://valley.example/0", "https://valley.example/1")
    assert page.problem == ""


def test_pruning_drops_the_consent_bar():
    assert "cookie" not in extract(PAGE.encode(), CRAWL).text


@both
@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"", "not HTML: no bytes"),
        (b" \n\0 ", "not HTML: white space"),
        (b"%PDF-1.7\n<p>not a page</p>", "not HTML: application/pdf"),
        (b"\x89PNG\r\n\x1a\n<p>", "not HTML: image/png"),
        (b"GIF89a<p>", "not HTML: image/gif"),
        (b"PK\x03\x04<p>", "not HTML: application/zip"),
        (b"\x1f\x8b\x08<p>", "not HTML: application/gzip"),
        (b"<p>" + bytes(range(1, 32)) * 20, "not HTML: binary data"),
        (b'{"a": 1}', "not HTML: no tag in its first 64 KiB"),
        (b"just words, 1 < 2", "not HTML: no tag in its first 64 KiB"),
        (b"<?xml version='1.0'?>\n<!-- a feed -->\n<rss><item/></rss>", "not HTML: XML, <rss>"),
        (b"<html><body></body></html>", "no text: "),
        (b"<html><body><script>var a = 'not text'</script></body></html>", "no text: "),
    ],
)
def test_what_is_no_page_says_what_it_is(recipe, payload, problem):
    page = extract(payload, recipe)
    assert page.text == ""
    assert page.problem.startswith(problem)


@both
def test_a_page_over_the_limit_of_bytes_is_not_parsed(recipe, monkeypatch):
    monkeypatch.setattr(html_module, "decoded", None)  # would raise
    small = recipe.model_copy(update={"max_page_bytes": 1000})
    assert extract(b"<p>" + b"x" * 998, small) == Page(problem="too large: 1001 bytes; max_page_bytes is 1000")


@both
def test_a_page_with_too_many_tags_is_set_aside(recipe):
    assert extract(b"<p>" * 100_001, recipe).problem == "too complex: 100001 tags; max_page_tags is 100000"
    assert "tags" not in extract(b"<p>word, " * 2_000, recipe).problem


def test_a_hundred_thousand_nested_elements_are_set_aside_at_once():
    page = extract(b"<div>" * 99_000 + b"<p>deep</p>", CRAWL)
    assert page.problem == "too complex: elements are nested deeper than 500, the max_page_depth"


def test_nested_elements_that_hide_their_depth_are_counted_as_the_parser_sees_them():
    page = extract(b"<div><object></div></object>" * 20_000 + b"text", CRAWL)  # no </div> closes anything
    assert "max_page_depth" in page.problem


def test_depth_up_to_the_limit_is_read():
    body = "<div>" * 450 + f"<p>{PROSE}</p><p>{PROSE}</p>"
    assert PROSE in extract(body.encode(), CRAWL).text
    assert "nested" in extract(body.encode(), CRAWL.model_copy(update={"max_page_depth": 400})).problem


def test_deep_pages_do_not_end_trafilatura():
    assert extract(b"<div>" * 99_999 + b"<p>deep</p>", DEFAULT).text in {"", "deep"}


@both
def test_menus_and_attributes_that_a_parser_reads_in_quadratic_time_are_set_aside(recipe):
    assert "options" in extract(b"<select>" + b"<OPTION>x" * 5_001, recipe).problem
    attributes = b" ".join(b"a%d=1" % n for n in range(5_001))
    assert "attributes" in extract(b"<p>hello</p><p " + attributes + b">text", recipe).problem
    assert "attributes" not in extract(b"<p>hello</p><script>" + attributes + b"</script>", recipe).problem


@both
def test_control_characters_and_halves_of_surrogate_pairs_never_reach_the_text(recipe):
    dirty = f"<html><body><p>{PROSE} be\0fore\x08 &#x1; &#xD800; &#x1F; \x7f after.</p><p>{PROSE}</p></body></html>"
    text = extract(dirty.encode(), recipe).text
    assert "before" in text
    assert "after." in text
    assert not any((c < " " and c != "\n") or c == "\x7f" for c in text)
    assert text.encode().decode() == text


def test_references_to_controls_go_and_those_to_characters_stay():
    page = (
        f"<html><body><p>{PROSE} a&#11;b&#110;c&#x1F;d&#x1F4;e&#9;f&#65534;g&#655340;</p><p>{PROSE}</p></body></html>"
    )
    text = extract(page.encode(), DEFAULT).text
    assert "abncd\u01f4e fg" in text


def test_a_parser_that_raises_is_a_problem_of_its_page(monkeypatch):
    def fails(html, recipe):
        raise ValueError("secret content")

    monkeypatch.setitem(html_module.EXTRACTORS, "trafilatura", fails)
    page = extract(PAGE.encode(), DEFAULT)
    assert page.problem == "unreadable HTML: trafilatura raised ValueError"


def test_a_page_that_takes_too_long_is_set_aside_with_its_reason(monkeypatch):
    def spins(html, recipe):
        while True:
            try:
                sum(range(1000))
            except Exception:  # noqa: BLE001  as extractors do
                continue

    monkeypatch.setitem(html_module.EXTRACTORS, "trafilatura", spins)
    page = extract(PAGE.encode(), HtmlRecipe(max_page_seconds=0.05))
    assert page.problem == "time limit: trafilatura took over 0.05 s of processor time"


def spin_within(seconds: float) -> None:
    with time_limit(seconds):
        while True:
            pass


def test_the_limit_leaves_no_alarm_and_no_handler_behind():
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(TimeLimitError):
        spin_within(0.01)
    with time_limit(1000.0):
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_waiting_costs_no_processor_time():
    with time_limit(0.2):
        started = time.monotonic()
        threading.Event().wait(0.3)
    assert time.monotonic() - started >= 0.3


def test_pages_are_read_in_threads_too():
    found = []
    thread = threading.Thread(target=lambda: found.append(extract(PAGE.encode(), CRAWL)))
    thread.start()
    thread.join()
    assert found == [extract(PAGE.encode(), CRAWL)]


@both
def test_the_same_page_has_the_same_text_whatever_was_read_before(recipe):
    first = extract(PAGE.encode(), recipe)
    extract(PAGE.replace("river", "lake").encode(), recipe)
    assert [extract(PAGE.encode(), recipe) for _ in range(3)] == [first] * 3


def test_recipes_are_bounded():
    for wrong in ({"extractor": "regex"}, {"max_page_seconds": 0}, {"max_page_depth": 100_000}, {"max_page_tags": 0}):
        with pytest.raises(ValidationError):
            HtmlRecipe(**wrong)


TAGS = st.sampled_from(
    [
        "<p>",
        "</p>",
        "<div>",
        "</div>",
        "<a\nhref='/x'>",
        "</a>",
        "<ul>",
        "<li>",
        "<table>",
        "<td>",
        "<pre>",
        "</pre>",
        "<h1>",
        "</h1>",
        "<!--",
        "-->",
        "<script>",
        "</script>",
        "<br>",
        "&lt;",
        "&#0;",
        "&#xD800;",
        "<",
        "<svg>",
        "<b",
    ]
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(TAGS | st.text(max_size=30) | st.just(PROSE), max_size=30))
def test_any_soup_of_tags_is_read_or_has_a_problem(pieces):
    payload = "".join(pieces).encode("utf-8", "surrogatepass")
    for recipe in (DEFAULT, CRAWL):
        page = extract(payload, recipe, url="https://a.example/b")
        assert bool(page.text) != bool(page.problem)
        page.text.encode()
        page.title.encode()
        assert all(link.startswith(("http://", "https://")) for link in page.links)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["", "utf-8", "latin-1", "utf-16", "nonsense", "shift_jis", "\0"]))
def test_any_bytes_are_read_or_have_a_problem(payload, charset):
    for recipe in (DEFAULT, CRAWL):
        page = extract(payload, recipe, charset=charset)
        assert bool(page.text) != bool(page.problem)


@pytest.fixture
def gold(shared_data):
    folder = shared_data / "web" / "html_gold" / "article_extraction_benchmark"
    if not folder.is_dir():
        pytest.skip(f"no gold pages at {folder}")
    truth = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    names = sorted(truth)[::12]
    return [(gzip.decompress((folder / f"html/{n}.html.gz").read_bytes()), truth[n]["articleBody"]) for n in names]


@both
def test_real_articles_are_found_whole(recipe, gold):
    for payload, article in gold:
        page = extract(payload, recipe)
        wanted, found = set(article.split()), set(page.text.split())
        assert len(wanted & found) >= 0.6 * len(wanted), page.title
        assert page.title
    assert len(gold) == 11
