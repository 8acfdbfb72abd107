"""Language: held against py3langid's own answers, and the same in every process."""

import polars as pl
import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from pipelines.language import identified

TEXTS = [
    "Return the mean of the array elements along the given axis.",
    "Der Mittelwert der Werte entlang der Achse wird berechnet und zurückgegeben.",
    "Renvoie la moyenne des valeurs selon l'axe donné, ou de tout le tableau.",
    "返回沿指定轴的平均值。",
    "Parameters\n----------\nx : array_like\n    Input data.",
    "ALL OF THIS IS WRITTEN IN CAPITAL LETTERS AND STILL ENGLISH",
    "Ово је реченица на српском језику, и још једна.",  # noqa: RUF001 - it is Cyrillic
    ">>> G = nx.path_graph(4)\n>>> list(G.edges)\n[(0, 1), (1, 2), (2, 3)]",
    "word",
]


def test_answers_are_those_of_the_library():
    library = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    frame = identified(pl.Series(TEXTS), "en")
    for text, language, confidence in zip(TEXTS, frame["language"], frame["language_confidence"], strict=True):
        expected, probability = library.classify(text)
        assert language == expected
        assert confidence == pytest.approx(probability, abs=2e-3)  # the library sums in float32


def test_technical_english_and_other_languages_lie_on_two_sides_of_the_docs_threshold():
    wanted = identified(pl.Series(TEXTS), "en")["wanted_language_confidence"]
    assert [p >= 0.02 for p in wanted] == [True, False, False, False, True, True, False, True, True]


def test_a_text_without_any_feature_is_undetermined_and_kept():
    frame = identified(pl.Series(["", "  "], dtype=pl.String), "en")
    assert frame.row(0) == ("und", 1.0, 1.0)


def test_rows_do_not_depend_on_their_neighbours():
    whole = identified(pl.Series(TEXTS), "en")
    single = pl.concat([identified(pl.Series([text]), "en") for text in TEXTS])
    assert whole.equals(single)


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="language 'klingon' is not known"):
        identified(pl.Series(["x"]), "klingon")
