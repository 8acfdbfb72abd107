"""Language: how likely it is that a document is written in the language that a corpus is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.provenance.recipe import Recipe

if TYPE_CHECKING:
    import polars as pl

MAX_CHARS = 2000  # py3langid is right on 98.4 % of paragraphs from 60 characters; more text costs and adds nothing
DIGITS = 4  # kept of a probability: the model itself has 11-bit weights


class LanguageRecipe(Recipe):
    """Which language is kept, and how sure that must be."""

    language: str = Field(default="en", description="ISO 639-1 code; empty: every language is kept")
    min_language_confidence: float = Field(
        default=0.5, ge=0, le=1, description="least probability of that language, as py3langid sees it"
    )


def identified(texts: pl.Series, language: str) -> pl.DataFrame:
    """The likeliest language of each text, its probability, and the probability of the wanted one.

    Columns: ``language``, ``language_confidence``, ``wanted_language_confidence``. A text without any feature
    that the model knows has language "und" (undetermined) and is given the benefit of the doubt: 1.0.

    Raises:
        ValueError: if the model does not know the wanted language.
    """
    import numpy as np
    import polars as pl

    from pipelines import language_kernel
    from pipelines.language_model import load_model

    model = load_model()
    if language and language not in model.labels:
        raise ValueError(f"language {language!r} is not known to py3langid; it knows {', '.join(model.labels)}.")
    column = texts.str.slice(0, MAX_CHARS)
    # the model was trained on natural case: a text in capitals alone is read in small letters, as py3langid does
    shouted = (column == column.str.to_uppercase()) & (column != column.str.to_lowercase())
    read = pl.select(pl.when(shouted).then(column.str.to_lowercase()).otherwise(column)).to_series()
    best, probability, wanted = language_kernel.scores(read.to_arrow(), model, language)
    labels = pl.Series(np.array([*model.labels, "und"], dtype=object)[best].tolist(), dtype=pl.String)
    return pl.DataFrame(
        {
            "language": labels,
            "language_confidence": np.round(probability, DIGITS),
            "wanted_language_confidence": np.round(wanted, DIGITS),
        }
    )
