"""Pruning: what a main-content extractor left around the article, told from it by structure.

The input is the reduced markup of resiliparse (headings, paragraphs, lists, preformatted text, links). It is cut into
blocks, and each block is judged by its length, its share of linked text, its punctuation and its place between the
first and the last prose. Block length and link density are the two features that carry most of the decision in
Kohlschütter, Fankhauser, Nejdl: Boilerplate Detection using Shallow Text Features (WSDM 2010), table 3. No rule knows
a word of any language.
"""

from __future__ import annotations

import re
from collections import Counter
from html import unescape
from typing import NamedTuple

# markup that resiliparse's own main-content rules leave in: what an image shows, the page's title and byline in
# its header, and the bars that float over a page. Attribute names are the web's, not those of any one site.
SKIPPED = (
    "figcaption",
    "header",
    *(
        f'[{attribute}*="{name}" i]'
        for attribute in ("class", "id")
        for name in ("caption", "cookie", "consent", "newsletter", "signup", "popup", "privacy")
    ),
)

PROSE_CHARS = 80  # a shorter block is prose only if it ends like a sentence
MAX_LINK_RATIO = 1 / 3  # Kohlschütter et al., Algorithm 2: a denser block is boilerplate
LINKED = 0.9  # nothing but a link, but for a bullet or a full stop
MAX_FRAME_RATIO = 0.3  # more text than this before the first or after the last prose is what the page is about
DENSE = 2 / 3
MAX_LIST_LINK_RATIO = 0.6
MAX_REPEATED_CHARS = 60

_TOKEN = re.compile(r"<(/?)(a|p|h[1-6]|li|ul|ol|pre|br)\b[^>]*>|\n")
_COLON = re.compile("[:\\uff1a]\\s*$")
_MARKUP = re.compile(r"<[a-z][^>]*>(\s*<[^>]*>)*")
_KINDS = frozenset({"p", "li", "pre", *(f"h{n}" for n in range(1, 7))})
_LINK = re.compile(r"<(/?)a\b")
_SPACE = re.compile(r"[ \t\r\f\v\xa0]+")
# ideographs, kana, Hangul and their compatibility forms
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]")
# what ends a sentence: . ! ? and the ellipsis, full-width and half-width CJK, Arabic, Armenian, Devanagari, Ethiopic
_STOPS = ".!?\u2026\u3002\uff01\uff1f\uff61\u061f\u06d4\u0589\u0964\u1362"
_CLOSING = r"""["'\u201c\u201d\u2019\u00bb\u203a\u300d\u300f\uff09)\]\s]*$"""
_SENTENCE = re.compile(f"[{_STOPS}]{_CLOSING}")
_END = re.compile(f"[{_STOPS};:\uff1a\uff1b\u061b]{_CLOSING}")


class Block(NamedTuple):
    """A run of text that the page shows as one."""

    kind: str  # h1 to h6, p, li, pre, text
    text: str
    link_ratio: float  # linked characters of all
    gap: bool  # a blank line stands before it

    @property
    def size(self) -> int:
        """Characters; an ideograph or a syllable of Hangul counts as three, as it says about as much."""
        return len(self.text) + 2 * len(_WIDE.findall(self.text))

    @property
    def level(self) -> int:
        return int(self.kind[1]) if self.kind[0] == "h" else 0


def blocks(markup: str) -> list[Block]:
    """The blocks of minimal HTML, in order, without the empty ones."""
    cutter, unclosed, start = _Cutter(), _unclosed(markup), 0
    for token in _TOKEN.finditer(markup):
        end, name = token.start(), token[2]
        if end > start:
            cutter.add(markup[start:end])
        start = token.end()
        if name == "a":
            cutter.is_linked = not token[1] and end not in unclosed
        elif name is None:
            cutter.end_line()
        elif name != "br":  # a line end follows each of them
            cutter.turn(name, is_end=bool(token[1]))
    cutter.add(markup[start:])
    cutter.close()
    return cutter.found


class _Cutter:
    """The block in the making, and those that are finished."""

    def __init__(self) -> None:
        self.found: list[Block] = []
        self.is_linked = False
        self._kinds = ["text"]  # of the elements around
        self._held: list[str] = []
        self._linked = 0
        self._is_gap = False
        self._is_blank = True  # nothing stands on this line yet

    def add(self, piece: str) -> None:
        self._is_blank = False
        self._held.append(piece)
        if self.is_linked:
            self._linked += len(piece.strip())

    def end_line(self) -> None:
        """Ends a block where no element does, or is a line of a paragraph."""
        if self._kinds[-1] not in {"text", "li"}:
            self._held.append("\n")
            return
        self.close()
        self._is_gap |= self._is_blank
        self._is_blank = True

    def turn(self, name: str, *, is_end: bool) -> None:
        """An element begins or ends here."""
        self.close()
        self._is_blank = False
        if name not in _KINDS:
            return
        self._is_gap |= name != "li"
        if not is_end:
            self._kinds.append(name)
        elif name in self._kinds:
            while self._kinds.pop() != name:
                pass

    def close(self) -> None:
        if not self._held:
            return
        kind, text = self._kinds[-1], unescape("".join(self._held))
        text = text.strip("\n") if kind == "pre" else _one_space(text)
        if text and not text.isspace():
            self.found.append(Block(kind, text, min(1.0, self._linked / len(text)), self._is_gap))
            self._is_gap = False
        self._held.clear()
        self._linked = 0


def _one_space(text: str) -> str:
    """Lines without white space around or runs of it inside, and without the empty ones."""
    return "\n".join(filter(None, (_SPACE.sub(" ", line).strip() for line in text.split("\n"))))


def _unclosed(markup: str) -> set[int]:
    """Places of links that have no end: resiliparse leaves out the end of a link around an image."""
    found: set[int] = set()
    last = -1
    for token in _LINK.finditer(markup):
        if last >= 0 and not token[1]:
            found.add(last)
        last = -1 if token[1] else token.start()
    if last >= 0:
        found.add(last)
    return found


def is_prose(block: Block) -> bool:
    """Long enough and not made of links."""
    return not block.level and block.link_ratio <= MAX_LINK_RATIO and block.size >= PROSE_CHARS


def is_sentence(block: Block) -> bool:
    """It ends as sentences end in most scripts."""
    return bool(_SENTENCE.search(block.text))


def pruned(found: list[Block]) -> list[Block]:
    """The blocks of the article: those that no rule below takes for a frame around it."""
    prose = [n for n, block in enumerate(found) if is_prose(block) and not _is_notice(block)]
    if not prose:
        return [block for block in found if block.link_ratio <= MAX_LINK_RATIO]
    kept = [not (_is_links(block) or _is_notice(block)) for block in found]
    _drop_link_lists(found, kept)
    _drop_repeated(found, kept)
    total = sum(block.size for block in found)
    if sum(block.size for block in found[: prose[0]]) <= MAX_FRAME_RATIO * total:
        _drop_lead(found, kept, prose[0])
    _drop_between(found, kept)
    if sum(block.size for block in found[prose[-1] + 1 :]) <= MAX_FRAME_RATIO * total:
        _drop_tail(found, kept, prose[-1])
    _drop_headings(found, kept)
    return [block for block, is_kept in zip(found, kept, strict=True) if is_kept]


def _is_links(block: Block) -> bool:
    """A line of links outside a list: related articles, share bars, tags, bread crumbs."""
    if block.kind in {"li", "pre"}:
        return False
    return block.link_ratio > (DENSE if is_sentence(block) else MAX_LINK_RATIO)


def _is_notice(block: Block) -> bool:
    """A copyright line, or markup that is shown as text (a counting pixel meant for browsers without scripts)."""
    return "\N{COPYRIGHT SIGN}" in block.text[:MAX_REPEATED_CHARS] or bool(_MARKUP.fullmatch(block.text))


def _drop_link_lists(found: list[Block], kept: list[bool]) -> None:
    """A list is judged as a whole: one item that is a link is no menu."""
    start = 0
    for end in range(len(found) + 1):
        if end < len(found) and found[end].kind == "li":
            continue
        size = sum(b.size for b in found[start:end])
        if size and sum(b.size * b.link_ratio for b in found[start:end]) / size > MAX_LIST_LINK_RATIO:
            kept[start:end] = [False] * (end - start)
        start = end + 1


def _drop_repeated(found: list[Block], kept: list[bool]) -> None:
    """Short lines that stand on the page three times: labels of advertisements, buttons, ratings."""
    times = Counter(b.text for b in found if b.kind == "text" and b.size <= MAX_REPEATED_CHARS)
    for n, block in enumerate(found):
        if block.kind == "text" and times[block.text] >= 3 and not is_sentence(block):
            kept[n] = False


def _is_label(block: Block) -> bool:
    """A short line that is no sentence: a caption, a byline, a date, a button."""
    return (
        block.kind in {"text", "p"} and "\t" not in block.text and block.size < PROSE_CHARS and not is_sentence(block)
    )


def _drop_lead(found: list[Block], kept: list[bool], first: int) -> None:
    """Before the first prose: the title (kept apart), byline, date, buttons."""
    for n in range(first):
        block = found[n]
        if _is_label(block) or block.kind == "h1":
            kept[n] = False


def _drop_between(found: list[Block], kept: list[bool]) -> None:
    """A label alone between two blocks of prose is a caption or an advertisement."""
    for n in range(1, len(found) - 1):
        before, block, after = found[n - 1], found[n], found[n + 1]
        is_between = is_prose(before) and is_prose(after)
        is_broken = not _END.search(before.text) or after.text[:1].islower()  # the sentence goes on around a link
        if block.kind == "text" and _is_label(block) and is_between and not is_broken:
            kept[n] = False


def _drop_tail(found: list[Block], kept: list[bool], last: int) -> None:
    """After the last prose: everything from the first heading, label or link on that is no list or table."""
    is_cut = False
    for n in range(last + 1, len(found)):
        block = found[n]
        is_cut = is_cut or not kept[n] or bool(block.level) or (block.kind == "text" and _is_label(block))
        if is_cut and block.kind in {"text", "p"}:
            kept[n] = False


def _drop_headings(found: list[Block], kept: list[bool]) -> None:
    """Headings, and short lines that end in a colon, whose section is gone."""
    below = 0  # what the next heading up would stand over: 0 nothing, 1 to 6 a heading of this level, 7 text
    for n in range(len(found) - 1, -1, -1):
        block = found[n]
        if block.level:
            kept[n] = kept[n] and below > block.level
            below = block.level if kept[n] else below
        elif not kept[n]:
            below = 0 if block.link_ratio > MAX_LINK_RATIO else below
        elif below == 0 and block.size < PROSE_CHARS and _COLON.search(block.text):
            kept[n] = False
        else:
            below = 7


def text_of(kept: list[Block]) -> str:
    """Plain text: paragraphs apart, list items with a dash, the rest line by line."""
    parts: list[str] = []
    for block in kept:
        if parts:
            parts.append("\n\n" if block.gap else "\n")
        parts.append(f"- {block.text}" if block.kind == "li" else block.text)
    return "".join(parts)
