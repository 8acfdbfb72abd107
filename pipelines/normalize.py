"""Normalisation: one way to write the same text, so that equal documents have equal bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# everything that Unicode calls a line end, form feed and vertical tab included; CR LF is one end, not two
_LINE_END = r"\r\n|[\r\x0b\x0c\x85\u{2028}\u{2029}]"
# control characters but newline and tab, and the byte-order mark; joiners stay, scripts need them
_CONTROL = r"[\p{Cc}\u{feff}--[\n\t]]"


def normalized(texts: pl.Series) -> pl.Series:
    r"""Line ends as ``\n``, no control characters, Unicode NFC, no trailing white space, at most two blank lines.

    Characters go before NFC is formed, since a letter and its accent may only then become neighbours; so the
    result is a fixed point. Indentation stays: it is what tells code from prose.
    """
    texts = texts.str.replace_all(_LINE_END, "\n").str.replace_all(_CONTROL, "")
    other = texts.str.contains(r"[^\x00-\x7f]").arg_true()  # NFC takes most of the time and leaves ASCII as it is
    if len(other):
        texts = texts.scatter(other, texts.gather(other).str.normalize("NFC"))
    texts = texts.str.replace_all(r"[^\S\n]+\n", "\n").str.replace_all(r"\n{4,}", "\n\n\n")
    return texts.str.strip_chars_end().str.strip_chars_start("\n")
