"""HTML: a page to its text, by one of two extractors, with title, date, language hint and links.

``trafilatura`` in its fast mode is for quality, ``resiliparse`` with our pruning for crawls, at several times the
speed. A page that cannot be read is a page with a problem; none ends the process, and what is bounded is bounded by
counts first: the same page has the same fate on a slow and on a fast machine.
"""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from pipelines.provenance.recipe import Recipe
from pipelines.readers import page_head
from pipelines.readers.page_encoding import decoded, no_page, not_html
from pipelines.readers.pruning import SKIPPED, blocks, pruned, text_of

HTML_VERSION = "1"
# lexbor reads a tag in time quadratic in its attributes, and a menu in time quadratic in its options: 0.2 s for 5,000
MAX_OPTIONS = 5_000
MAX_ATTRIBUTES = 5_000


class HtmlRecipe(Recipe):
    """How pages become text."""

    extractor: Literal["trafilatura", "resiliparse"] = Field(
        default="trafilatura", description="trafilatura: quality; resiliparse with pruning: speed, for crawls"
    )
    max_page_bytes: int = Field(default=8 << 20, ge=1, description="larger HTML pages are quarantined")
    max_page_tags: int = Field(default=100_000, ge=1, description="pages with more tags are quarantined")
    max_page_depth: int = Field(
        default=500, ge=10, le=2_000, description="pages with deeper elements are quarantined (resiliparse)"
    )
    max_page_links: int = Field(default=200, ge=0, description="addresses kept of a page's links, from its beginning")
    max_page_seconds: float = Field(
        default=60.0, gt=0, description="processor time for one page, a last resort (trafilatura)"
    )


class Page(NamedTuple):
    """What was found of a page; a page with a problem has no text."""

    text: str = ""
    title: str = ""
    date: str = ""
    language: str = ""
    links: tuple[str, ...] = ()
    problem: str = ""


class TooComplexError(ValueError):
    """The page has more of something than the recipe allows."""


class TimeLimitError(BaseException):
    """Processor time is over. No ``Exception``, because extractors catch those and go on."""


def extract(payload: bytes, recipe: HtmlRecipe, *, url: str = "", charset: str = "") -> Page:
    """The main text of a page.

    Args:
        payload: the page's bytes, without transfer or content encoding.
        recipe: which extractor, and what is too much.
        url: address of the page; relative links are dropped without one.
        charset: what the HTTP header says of the encoding.
    """
    if len(payload) > recipe.max_page_bytes:
        return Page(problem=f"too large: {len(payload)} bytes; max_page_bytes is {recipe.max_page_bytes}")
    other = not_html(payload)
    html = "" if other else decoded(payload, charset)
    other = other or no_page(html)
    if other:
        return Page(problem=f"not HTML: {other}")
    try:
        check_size(payload, recipe)
        with time_limit(recipe.max_page_seconds):
            text = EXTRACTORS[recipe.extractor](html, recipe)
    except TooComplexError as error:
        return Page(problem=f"too complex: {error}")
    except TimeLimitError:
        return Page(problem=f"time limit: {recipe.extractor} took over {recipe.max_page_seconds:g} s of processor time")
    except Exception as error:  # noqa: BLE001  whatever a parser raises concerns this page only
        return Page(problem=f"unreadable HTML: {recipe.extractor} raised {type(error).__name__}")
    return _page(text, html, recipe, url)


def _page(text: str, html: str, recipe: HtmlRecipe, url: str) -> Page:
    head = page_head.head_of(html)
    meta = page_head.stated(head)
    return Page(
        text=text,
        title=page_head.title(head, meta),
        date=page_head.published(html, meta),
        language=page_head.language(head, meta),
        links=page_head.links(html, head, url, recipe.max_page_links),
        problem="" if text else f"no text: {recipe.extractor} found none in {len(html)} characters",
    )


def check_size(payload: bytes, recipe: HtmlRecipe) -> None:
    """Counts that can be had before parsing.

    Raises:
        TooComplexError: if there are too many tags, options of menus or attributes of one tag.
    """
    num_tags = payload.count(b"<")
    if num_tags > recipe.max_page_tags:
        raise TooComplexError(f"{num_tags} tags; max_page_tags is {recipe.max_page_tags}")
    if num_tags > MAX_OPTIONS and len(_OPTION.findall(payload)) > MAX_OPTIONS:
        raise TooComplexError(f"over {MAX_OPTIONS} options in menus")
    if any(_num_attributes(piece) > MAX_ATTRIBUTES for piece in _long_pieces(payload)):
        raise TooComplexError(f"a tag with over {MAX_ATTRIBUTES} attributes")


def _long_pieces(payload: bytes) -> Iterator[bytes]:
    """The stretches without ``>`` that have room for too many attributes; each holds one of the windows looked at."""
    window = MAX_ATTRIBUTES
    if all(payload.find(b">", n, n + window) >= 0 for n in range(0, len(payload) - window, window)):
        return
    ends = np.flatnonzero(np.frombuffer(payload, np.uint8) == ord(">"))
    edges = np.concatenate([[-1], ends, [len(payload)]])
    for n in np.flatnonzero(np.diff(edges) > 2 * MAX_ATTRIBUTES):
        yield payload[edges[n] + 1 : edges[n + 1]]


def _num_attributes(piece: bytes) -> int:
    """Words after the last tag that opens in this stretch."""
    start = max((tag.start() for tag in _OPEN.finditer(piece)), default=len(piece))
    return len(piece[start:].split())


_OPEN = re.compile(b"<[a-zA-Z]")
_OPTION = re.compile(b"<option", re.IGNORECASE)


def _by_trafilatura(html: str, _: HtmlRecipe) -> str:
    import trafilatura

    _quiet_trafilatura()
    html = _CONTROL_REFERENCE.sub("", html)  # with a single one, trafilatura finds no text at all
    return _sound(trafilatura.extract(html, fast=True, include_comments=False) or "")


# numbers that XML has no character for: 0 to 31 but for tab and line ends, U+FFFE and U+FFFF
_CONTROL_REFERENCE = re.compile(
    r"&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01]|6553[45])(?![0-9])"
    r"|[xX]0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]|[fF]{3}[eEfF])(?![0-9a-fA-F]));?"
)


@functools.cache
def _quiet_trafilatura() -> None:
    """It logs a line a page that it gives up; ours are counted as fates."""
    import logging

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL + 1)


def _by_resiliparse(html: str, recipe: HtmlRecipe) -> str:
    """Main content by resiliparse, then :func:`~pipelines.readers.pruning.pruned`.

    Its extraction takes time quadratic in the depth of the tree (14 s for 20,000 <div>), and no signal ends it.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree: Any = HTMLTree.parse(html)
    if tree.document.query_selector(_deeper_than(recipe.max_page_depth)) is not None:
        raise TooComplexError(f"elements are nested deeper than {recipe.max_page_depth}, the max_page_depth")
    markup = extract_plain_text(
        tree,
        preserve_formatting="minimal_html",
        main_content=True,
        alt_texts=False,
        links=True,
        comments=False,
        post_meta=False,
        skip_elements=SKIPPED,
    )
    return _sound(text_of(pruned(blocks(markup))))


@functools.cache
def _deeper_than(depth: int) -> str:
    """A selector of child steps: lexbor follows it from an element to its root without going back."""
    return ">".join(["*"] * (depth + 1))


def _sound(text: str) -> str:
    """Character references may bring control characters and halves of surrogate pairs back."""
    return text.translate(_UNSOUND).strip() if _HAS_UNSOUND.search(text) else text.strip()


_HAS_UNSOUND = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_UNSOUND: dict[int, str | None] = {**dict.fromkeys((*range(9), 0xB, 0xC, *range(0xE, 0x20), 0x7F)), 0xD: "\n"}
_UNSOUND |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")

EXTRACTORS = {"trafilatura": _by_trafilatura, "resiliparse": _by_resiliparse}


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise in this thread after so much processor time of this process; a busy machine does not shorten it.

    Python gives signals to the main thread: in another one nothing is limited, the counts alone bound the work. The
    alarm repeats each second, for an extractor that swallows it.

    Raises:
        TimeLimitError: in the body.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    is_running = True

    def over(*_: Any) -> None:
        if is_running:
            raise TimeLimitError

    before = signal.signal(signal.SIGVTALRM, over)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 1.0)
        try:
            yield
        finally:
            is_running = False  # an alarm during the clean-up must not keep it from happening
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
