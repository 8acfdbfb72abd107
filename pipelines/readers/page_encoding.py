"""The characters of a page: which encoding its bytes are in, and which payloads are no page at all."""

from __future__ import annotations

import codecs
import re

# WHATWG Encoding Standard, "BOM sniff"
BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF16_LE, "utf-16-le"))
META_BYTES = 1024 * 8  # the standard looks at 1,024 bytes; pages that put scripts first state it later
DETECTOR_BYTES = 1 << 17
SNIFFED_BYTES = 1 << 16  # a page has its first tag in here
MAX_CONTROL_RATIO = 0.05  # of the first 64 KiB: more is no text in any encoding

_META = re.compile(rb"""<meta[^>]{0,256}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{1,40})""")
_TAG = re.compile(r"<(?:[a-zA-Z]|!doctype)", re.IGNORECASE)
_FEED = re.compile(
    r"(?:\s++|<\?[^>]*+>|<!--.*?-->|<!doctype[^>]*+>)*+<(rss|feed|rdf:RDF|sitemapindex|urlset|svg)\b",
    re.IGNORECASE | re.DOTALL,
)
_CONTROL_BYTES = bytes({*range(1, 0x20)} - {0x09, 0x0A, 0x0C, 0x0D, 0x1B})  # 0x1b begins the modes of ISO-2022-JP


def decoded(payload: bytes, charset: str = "") -> str:
    """The text of a page, without byte order mark and NUL.

    In this order: byte order mark; valid UTF-8 with characters beyond ASCII, whatever is stated (pages state Latin-1
    and are UTF-8; the reverse does not decode by chance); the charset of the HTTP header; that of the page; what
    resiliparse's detector says of the first 128 KiB. Bytes that are invalid become U+FFFD.
    """
    text = _with_mark(payload)
    if text is None and not payload.isascii() and not _is_utf16(charset):
        text = _utf8(payload)
    if text is None:
        text = payload.decode(_encoding(payload, charset), "replace")
    return text.replace("\0", "") if "\0" in text else text


def _with_mark(payload: bytes) -> str | None:
    for mark, encoding in BYTE_ORDER_MARKS:
        if payload.startswith(mark):
            return payload[len(mark) :].decode(encoding, "replace")
    return None


def _utf8(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _is_utf16(charset: str) -> bool:
    return charset.strip().lower().replace("_", "-").startswith("utf-16")


def _encoding(payload: bytes, charset: str) -> str:
    from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

    unmarked = _unmarked_utf16(payload)
    found = _META.search(payload[:META_BYTES]) or _XML.search(payload[:META_BYTES])
    stated = found[1].decode("ascii", "ignore") if found else ""
    for name in (unmarked, charset.strip(), "" if _is_utf16(stated) else stated):  # a meta tag was read, so no UTF-16
        encoding = map_encoding_to_html5(name, fallback_utf8=False) if name else None
        # what is not valid UTF-8 is seldom UTF-8 with an error: the detector knows that case too
        if encoding and (encoding != "utf-8" or payload.isascii()):
            return encoding
    return detect_encoding(payload, max_len=DETECTOR_BYTES) or "utf-8"


def _unmarked_utf16(payload: bytes) -> str:
    """UTF-16 without a mark, told by the zero bytes of its ASCII characters; empty if it is none."""
    head = payload[:SNIFFED_BYTES]
    if b"\0" not in head:
        return ""
    zeros = head[0::2].count(0), head[1::2].count(0)
    if max(zeros) * 5 < len(head):  # markup alone is two fifths of a page
        return ""
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def not_html(payload: bytes) -> str:
    """What a payload is instead of HTML; empty: nothing in its first 64 KiB speaks against HTML."""
    from resiliparse.parse.encoding import detect_mime

    head = payload[:SNIFFED_BYTES]
    if not head.strip(b"\0 \t\r\n"):
        return "white space" if payload else "no bytes"
    if head.startswith(b"GIF8"):
        return "image/gif"
    mime = "text/html" if head.lstrip()[:1] == b"<" else detect_mime(head)
    if mime not in _MAYBE_TEXT and not mime.startswith("text/"):
        return mime
    num_controls = len(head) - len(head.translate(None, _CONTROL_BYTES))
    is_binary = num_controls > max(8, MAX_CONTROL_RATIO * len(head))
    return "binary data" if is_binary and _with_mark(head) is None and not _unmarked_utf16(head) else ""


def no_page(text: str) -> str:
    """What decoded text is instead of a page; empty: it is one."""
    feed = _FEED.match(text[:SNIFFED_BYTES])
    if feed:
        return f"XML, <{feed[1]}>"
    return "" if _TAG.search(text, 0, SNIFFED_BYTES) else "no tag in its first 64 KiB"


_MAYBE_TEXT = frozenset(f"application/{kind}" for kind in ("octet-stream", "xml", "xhtml+xml", "json", "javascript"))
