"""The recipe of cleaning: all families in one flat table, and the presets that a spec begins from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from pipelines.filters.c4 import C4Recipe
from pipelines.filters.fineweb import FineWebRecipe
from pipelines.filters.gopher_quality import GopherQualityRecipe
from pipelines.filters.gopher_repetition import GopherRepetitionRecipe
from pipelines.filters.refinedweb import RefinedWebRecipe
from pipelines.instruments import url_list, word_list
from pipelines.instruments.instruments import InstrumentRecipe
from pipelines.language import LanguageRecipe
from pipelines.normalize import NormalizeRecipe
from pipelines.privacy.masking import PrivacyRecipe
from pipelines.spec import Spec


class CleanRecipe(
    NormalizeRecipe,
    LanguageRecipe,
    GopherRepetitionRecipe,
    GopherQualityRecipe,
    RefinedWebRecipe,
    C4Recipe,
    FineWebRecipe,
    InstrumentRecipe,
    PrivacyRecipe,
):
    """FineWeb's rules with their published bounds, a language that is likelier than all others, masks on."""

    word_rule: Literal["regex-1", "spacy-en"] = Field(
        default="regex-1", description="what a word is; spacy-en is what datatrove and FineWeb count"
    )
    refinedweb: bool = Field(default=False, description="cut lines and drop documents by the RefinedWeb line rules")


def web() -> CleanRecipe:
    """The defaults: prose of the web in one language."""
    return CleanRecipe()


def fineweb() -> CleanRecipe:
    """The four families as datatrove 0.10 runs them for FineWeb: same decision, same reason, same text.

    FineWeb's language model (fastText) is another than ours, so language is a decision of its own here: every
    language passes. Texts are taken as they are, since datatrove does not normalise; masks are applied at the end.
    """
    return CleanRecipe(word_rule="spacy-en", repair=False, normalize=False, language="", min_language_confidence=0.0)


def docs() -> CleanRecipe:
    """For technical documentation, whose documents are short and full of code.

    Measured on 7,566 docstrings, READMEs and licences of five packages (10.9 MB). The paper's bounds drop most of
    them. A docstring of 20 words is a whole document; a page of reference may be a single list; in a parameter
    table every second token is punctuation; code has curly brackets and lines of one word. The language model gives
    signatures and doctests 2 to 50 % English, yet a sentence of German, French, Italian, Spanish or Chinese gets
    less than 0.5 %: so 2 % parts them.
    """
    return CleanRecipe(
        gopher_repetition=False,
        c4=False,
        fineweb=False,
        min_words=20,
        min_mean_word_length=2.5,  # x, y, np and i are words too
        max_mean_word_length=15.0,
        max_ellipsis_ratio=0.2,  # doctests continue lines by ...
        max_ellipsis_lines_ratio=0.5,
        max_bullet_lines_ratio=0.95,
        min_alpha_words_ratio=0.35,
        min_stop_words=1,
        min_language_confidence=0.02,
    )


class Lists(NamedTuple):
    """Files that a cleaning table names; what counts of them is their digest, which stands in the recipe."""

    url_list: Path | None
    bad_words: Path | None


def recipe_of(spec: Spec, name: str) -> CleanRecipe:
    """The recipe in the table ``[cleaning.NAME]``: a preset (``web`` if it names none) and what it says otherwise.

    Raises:
        SpecError: for a preset, a list or a field that does not exist, or a value out of bounds.
    """
    said = dict(spec.document.cleaning.get(name, {}))
    preset = said.pop("preset", "web")
    if preset not in PRESETS:
        raise spec.error(("cleaning", name, "preset"), f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    lists = lists_of(spec, name)
    for key, path, list_digest in zip(Lists._fields, lists, (url_list.list_digest, word_list.list_digest), strict=True):
        if said.pop(key, None) and path:
            try:
                said[f"{key}_digest"] = list_digest(path)
            except ValueError as error:
                raise spec.error(("cleaning", name, key), str(error).rstrip(".")) from None
    for key, table in (("classifier", spec.document.classifiers), ("reference", spec.document.references)):
        if said.get(key, "") and said[key] not in table:
            there = ", ".join(table) or "none"
            raise spec.error(("cleaning", name, key), f"no {said[key]!r} in [{key}s]; there are: {there}")
    return spec.checked(CleanRecipe, ("cleaning", name), **{**PRESETS[preset]().model_dump(), **said})


def lists_of(spec: Spec, name: str) -> Lists:
    """Where the lists of a cleaning table lie, beside the spec."""
    said = spec.document.cleaning.get(name, {})
    return Lists(*(spec.path.parent / str(said[key]) if said.get(key) else None for key in Lists._fields))


PRESETS: dict[str, Callable[[], CleanRecipe]] = {"web": web, "fineweb": fineweb, "docs": docs}
