"""Normalisation: one way to write the same text, so that equal documents have equal bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.provenance.recipe import Recipe

if TYPE_CHECKING:
    import polars as pl

# everything that Unicode calls a line end, form feed and vertical tab included; CR LF is one end, not two
_LINE_END = r"\r\n|[\r\x0b\x0c\x85\u{2028}\u{2029}]"
# control characters but newline and tab, and the byte-order mark; joiners stay, scripts need them
_CONTROL = r"[\p{Cc}\u{feff}--[\n\t]]"
# UTF-8 that was read as Latin-1 or Windows-1252: the first byte of a character of two or three bytes, read as a letter,
# and a second byte, read as what Windows-1252 has at 0x80 to 0xbf. ftfy decides; this finds what it must look at.
_MOJIBAKE = (
    r"[\u{c2}-\u{ef}][\u{80}-\u{bf}\u{20ac}\u{201a}\u{192}\u{201e}\u{2026}\u{2020}\u{2021}\u{2c6}\u{2030}\u{160}\u{2039}"
    r"\u{152}\u{17d}\u{2018}\u{2019}\u{201c}\u{201d}\u{2022}\u{2013}\u{2014}\u{2dc}\u{2122}\u{161}\u{203a}\u{153}\u{17e}\u{178}]"
)


class NormalizeRecipe(Recipe):
    """How a text is written."""

    repair: bool = Field(default=True, description="undo UTF-8 that was read as Windows-1252 (as ftfy finds it)")
    normalize: bool = Field(
        default=True, description="Unicode NFC, no control characters, \\n as line end, no trailing white space"
    )


def written(texts: pl.Series, recipe: NormalizeRecipe) -> pl.Series:
    """The texts as the recipe wants them to be written."""
    texts = repaired(texts) if recipe.repair else texts
    return normalized(texts) if recipe.normalize else texts


def repaired(texts: pl.Series) -> pl.Series:
    """Texts whose encoding was mistaken, as they were meant; ftfy leaves alone what may be meant as it stands."""
    suspect = texts.str.contains(_MOJIBAKE).arg_true()
    if not len(suspect):
        return texts
    import ftfy

    return texts.scatter(suspect, [ftfy.fix_encoding(text) for text in texts.gather(suspect)])


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
