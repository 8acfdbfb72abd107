"""The judgement: which rules a document is held against, in which order, and the first that it breaks.

It needs the signals that cleaning stored and the recipe, never the text; so a threshold can be tried on a finished
source in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipelines.clean_recipe import CleanRecipe
from pipelines.filters import c4, fineweb, gopher_quality, gopher_repetition, refinedweb
from pipelines.filters.rules import Rule, first_broken
from pipelines.filters.rules import breaks as breaks_rule
from pipelines.instruments import instruments, word_list
from pipelines.provenance.recipe import Recipe

if TYPE_CHECKING:
    import polars as pl


class Family(NamedTuple):
    """Rules that are switched together."""

    switch: str  # field of the recipe; empty: always on
    rules: tuple[Rule, ...]
    remeasures: bool = False  # switching it changes what is measured: the text, or what it is measured with


# FineWeb's order: address, language, repetition, quality, C4 and its own rules (datatrove's examples/fineweb.py); then what a team brought
FAMILIES = (
    Family("", (Rule("empty", "num_chars", "", True, "", 1.0),)),
    Family("url_list_digest", instruments.URL_RULES, remeasures=True),
    Family("", (Rule("language", "wanted_language_confidence", "min_language_confidence", True),)),
    Family("gopher_repetition", gopher_repetition.RULES),
    Family("gopher_quality", gopher_quality.RULES),
    Family("refinedweb", refinedweb.RULES, remeasures=True),
    Family("c4", c4.RULES, remeasures=True),
    Family("fineweb", fineweb.RULES),
    Family("bad_words_digest", word_list.RULES, remeasures=True),
    Family("reference", instruments.REFERENCE_RULES, remeasures=True),
    Family("classifier", instruments.CLASSIFIER_RULES, remeasures=True),
)


def active_rules(recipe: CleanRecipe) -> list[Rule]:
    """The rules that are on, in the order in which a document meets them."""
    return [rule for family in FAMILIES if _is_on(family, recipe) for rule in family.rules]


def broken_rule(recipe: CleanRecipe) -> pl.Expr:
    """The first rule that a document breaks, as a struct of ``reason`` and ``value``; null if none."""
    return first_broken([(rule.reason, rule.signal, breaks_rule(rule, recipe)) for rule in active_rules(recipe)])


def thresholds() -> list[str]:
    """Fields of the recipe that only judge: they may change without a new measurement."""
    fields = [rule.bound for family in FAMILIES for rule in family.rules if rule.bound]
    switches = [family.switch for family in FAMILIES if family.switch and not family.remeasures]
    return list(dict.fromkeys([*switches, *fields]))


def measured_alike(before: Recipe, after: Recipe) -> list[str]:
    """Fields that differ and change what is measured; empty if stored signals answer for both recipes."""
    judging = set(thresholds())
    old, new = before.model_dump(), after.model_dump()
    return sorted(name for name in new if name not in judging and old.get(name) != new[name])


def _is_on(family: Family, recipe: CleanRecipe) -> bool:
    return not family.switch or bool(getattr(recipe, family.switch))
