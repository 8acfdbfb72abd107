"""Wikitext: the prose of a MediaWiki article without its markup.

Templates, tables, references, galleries, files and categories are left out: they are data about the article, or
need the wiki to be rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

LEFT_OUT_TAGS = frozenset(
    [
        "ref",
        "references",
        "table",
        "gallery",
        "imagemap",
        "timeline",
        "score",
        "templatestyles",
        "graph",
        "mapframe",
        "maplink",
        "inputbox",
        "categorytree",
        "indicator",
        "section",
        "hiero",
        "style",
        "script",
        "noinclude",
        "includeonly",
    ]
)
NAMESPACES = frozenset({"file", "image", "media", "category"})  # in every language; the dump states its own names
_KEPT_ARGUMENT = {"lang": "2", "transl": "2", "nowrap": "1", "nobold": "1", "smallcaps": "1", "abbr": "1", "as of": "1"}
_INTERWIKI = re.compile(r"[a-z]{2,3}(-[a-z]{2,10})?|simple")
_EMPTY_BRACKETS = re.compile(r" ?\((?:[\s;,:]|&nbsp;)*\)")
_SWITCH = re.compile(r"__[A-Z]{3,}__")
_QUOTES = re.compile(r"'{2,5}")
_BULLET = re.compile(r"^[*#:;]+ *", re.MULTILINE)
_SPACES = re.compile(r"[ \t\xa0]+")


def plain_text(wikitext: str, namespaces: frozenset[str] = NAMESPACES) -> str:
    """The prose of an article; headings without anything under them are left out.

    Args:
        wikitext: what an editor wrote.
        namespaces: lower-case prefixes of links that show nothing in the text (files, categories).
    """
    import mwparserfromhell

    code = mwparserfromhell.parse(wikitext, skip_style_tags=True)
    text = "".join(_rendered(code.nodes, namespaces))
    text = _EMPTY_BRACKETS.sub("", _SWITCH.sub("", _QUOTES.sub("", text)))
    lines = [_SPACES.sub(" ", line).strip() for line in _BULLET.sub("", text).split("\n")]
    return _without_empty_sections(lines)


def _rendered(nodes: Iterable[Any], hidden: frozenset[str]) -> Iterable[str]:
    from mwparserfromhell import nodes as kinds

    for node in nodes:
        if isinstance(node, kinds.Text):
            yield node.value
        elif isinstance(node, kinds.Wikilink):
            yield _link(node, hidden)
        elif isinstance(node, kinds.ExternalLink):
            yield "".join(_rendered(node.title.nodes, hidden)) if node.title is not None else ""
        elif isinstance(node, kinds.Tag):
            yield _tag(node, hidden)
        elif isinstance(node, kinds.Heading):
            title = "".join(_rendered(node.title.nodes, hidden)).strip()
            yield f"\n\x01{title}\n"
        elif isinstance(node, kinds.HTMLEntity):
            yield _entity(node)
        elif isinstance(node, kinds.Template):
            yield _template(node, hidden)


def _link(node: Any, hidden: frozenset[str]) -> str:
    title = str(node.title).strip()
    prefix, colon, _ = title.partition(":")
    if colon and (prefix.strip().lower() in hidden or _INTERWIKI.fullmatch(prefix.strip())):
        return ""
    if node.text is not None:
        return "".join(_rendered(node.text.nodes, hidden))
    return title.lstrip(":")


def _tag(node: Any, hidden: frozenset[str]) -> str:
    name = str(node.tag).strip().lower()
    if name == "br":
        return "\n"
    if name in LEFT_OUT_TAGS or node.contents is None:
        return ""
    return "".join(_rendered(node.contents.nodes, hidden))


def _entity(node: Any) -> str:
    try:
        return node.normalize()
    except (ValueError, OverflowError):
        return ""


def _template(node: Any, hidden: frozenset[str]) -> str:
    """The words of the few templates that only dress them; a length or weight in its own unit."""
    name = str(node.name).strip().lower()
    if name in {"convert", "cvt"} and len(node.params) >= 2:
        return f"{str(node.params[0].value).strip()} {str(node.params[1].value).strip()}"
    wanted = _KEPT_ARGUMENT.get(name)
    if wanted is None or not node.has(wanted):
        return ""
    return "".join(_rendered(node.get(wanted).value.nodes, hidden))


def _without_empty_sections(lines: list[str]) -> str:
    """The lines, blank ones at most one in a row, without headings (marked by a control character) with nothing under them."""
    kept: list[str] = []
    for line in [*lines, "\x01"]:
        if line.startswith("\x01"):
            while kept and (not kept[-1] or kept[-1].startswith("\x01")):
                kept.pop()  # a subsection's heading falls too: what follows it is another heading
            kept += ["", line] if kept else [line]
        elif line or (kept and kept[-1] and not kept[-1].startswith("\x01")):
            kept.append(line)
    return "\n".join(line.removeprefix("\x01") for line in kept[:-1]).strip()
