"""N-gram models: a plain-Python Kneser-Ney, answers by hand, probabilities that sum to one, and the same bytes."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from corpora import Corpora
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.instruments import ngram_model
from pipelines.instruments.ngram_kernel import FIRST_WORD, token_ids
from pipelines.instruments.ngram_model import FALLBACK, NgramModel, PerplexityRecipe, discounts, train_ngram_model
from pipelines.provenance.artifact import Artifact
from pipelines.words import word_hashes


def trained(corpora: Corpora, reference: list[Artifact], **fields) -> Artifact:
    recipe = PerplexityRecipe(**{"perplexity_min_count": 1, **fields})
    return corpora.run(
        "reference_model", "mine", ngram_model.VERSION, recipe, reference,
        lambda draft: train_ngram_model(reference, recipe, draft), force=True,
    )  # fmt: skip


def model_of(corpora: Corpora, texts: list[str], **fields) -> NgramModel:
    return NgramModel.load(trained(corpora, [corpora.clean("a/1", texts)], **fields))


def sentences(count: int, seed: int = 1, words: Sequence[str] = "abcdefgh", most: int = 9) -> list[str]:
    """Skewed, with repeats, so that counts of counts from 1 to 4 and contexts of every length occur."""
    pick = random.Random(seed)
    weights = [1 / (n + 1) for n in range(len(words))]
    return [" ".join(pick.choices(words, weights, k=pick.randint(0, most))) for _ in range(count)]


def ids_of(model: NgramModel, text: str) -> np.ndarray:
    return token_ids(word_hashes(pa.array([text], pa.large_string()))[0], model.words, model.word_slots)


class Plain:
    """Chen & Goodman's recursion over Counters of tuples, at the begin of a document with raw counts as KenLM has."""

    def __init__(self, texts: list[str], order: int, min_count: int) -> None:
        seen = Counter(word for text in texts for word in text.split())
        self.known = {word for word, count in seen.items() if count >= min_count}
        self.order = order
        raw = [Counter() for _ in range(order + 1)]
        for text in texts:
            line = ["<s>", *(self.token(w) for w in text.split()), "</s>"]
            for n in range(1, order + 1):
                raw[n].update(tuple(line[at : at + n]) for at in range(len(line) - n + 1))
        del raw[1][("<s>",)]
        self.counts = [Counter() for _ in range(order + 1)]
        self.counts[order] = raw[order]
        for n in range(1, order):
            left = Counter(gram[1:] for gram in raw[n + 1])
            self.counts[n] = Counter({g: raw[n][g] if g[0] == "<s>" else left[g] for g in raw[n]})
        self.discount = [None, *(discounts(np.array(list(c.values()), np.int64)) for c in self.counts[1:])]
        self.after = defaultdict(list)
        for counter in self.counts:
            for gram, count in counter.items():
                self.after[gram[:-1]].append(count)

    def token(self, word: str) -> str:
        return word if word in self.known else "<unk>"

    def probability(self, context: tuple[str, ...], word: str) -> float:
        n = len(context) + 1
        lower = self.probability(context[1:], word) if context else 1 / (len(self.known) + 2)
        if context not in self.after:
            return lower
        taken, total = self.discount[n], sum(self.after[context])
        count = self.counts[n][(*context, word)]
        weight = sum(taken[min(c, 3)] for c in self.after[context]) / total
        return (count - taken[min(count, 3)]) / total + weight * lower

    def perplexity(self, text: str) -> float:
        line = ["<s>", *(self.token(w) for w in text.split()), "</s>"]
        logs = [
            math.log(self.probability(tuple(line[max(0, at - self.order + 1) : at]), line[at]))
            for at in range(1, len(line))
        ]
        return math.exp(-sum(logs) / len(logs))


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("min_count", [1, 4])
def test_perplexities_are_those_of_a_plain_kneser_ney(corpora, order, min_count):
    texts = [*sentences(120), "x y", "z"]
    plain = Plain(texts, order, min_count)
    model = model_of(corpora, texts, perplexity_order=order, perplexity_min_count=min_count)
    new = [*texts[:20], *sentences(60, seed=2), "", "unheard of words", "a never b", "a a a a a a"]
    found = model.perplexities(pa.array(new, pa.large_string()))
    assert found == pytest.approx([plain.perplexity(text) for text in new], rel=1e-4)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one_after_every_context(corpora, order):
    texts = sentences(150)
    model = model_of(corpora, texts, perplexity_order=order, perplexity_min_count=2)
    words = [0, *range(FIRST_WORD, FIRST_WORD + len(model.words))]
    contexts = ["", "a", "b a", "a b c d", "h h h h", "a never", "never", *texts[:10]]
    for context in contexts:
        before = ids_of(model, context)
        after = [
            model.log_probabilities(np.append(before, w).astype(np.int32), np.array([0, len(before) + 1]))
            for w in words
        ]
        end = model.log_probabilities(before, np.array([0, len(before)]))[-1]
        assert sum(math.exp(logs[-2]) for logs in after) + math.exp(end) == pytest.approx(1, abs=1e-5)


@settings(max_examples=25)
@given(texts=st.lists(st.text("abc ", max_size=12), min_size=1, max_size=8), order=st.integers(1, 5))
def test_any_reference_gives_a_distribution(tmp_path_factory, texts, order):
    """Also where counts of counts give no discounts, and where a document is empty."""
    texts = [*texts, "a"]
    model = model_of(Corpora(tmp_path_factory.mktemp("n")), texts, perplexity_order=order)
    words = [0, *range(FIRST_WORD, FIRST_WORD + len(model.words))]
    for context in ("", "a", "a b", "c c c"):
        before = ids_of(model, context)
        after = [
            model.log_probabilities(np.append(before, w).astype(np.int32), np.array([0, len(before) + 1]))
            for w in words
        ]
        end = model.log_probabilities(before, np.array([0, len(before)]))[-1]
        assert sum(math.exp(logs[-2]) for logs in after) + math.exp(end) == pytest.approx(1, abs=1e-5)


def test_unigrams_of_one_sentence_are_what_one_gets_by_hand(corpora):
    """ "a a b": counts a 2, b 1, end 1; discounts fall back to .5 and 1; vocabulary a, b, unknown, end."""
    model = model_of(corpora, ["a a b"], perplexity_order=1)
    spare = (1.0 + 0.5 + 0.5) / 4 / 4  # what is taken off, shared by four
    p = {"a": (2 - 1) / 4 + spare, "b": (1 - 0.5) / 4 + spare, "z": spare}
    end = p["b"]
    found = model.perplexities(pa.array(["a", "b z", ""], pa.large_string()))
    assert found == pytest.approx([(p["a"] * end) ** -0.5, (p["b"] * p["z"] * end) ** (-1 / 3), 1 / end], rel=1e-5)


def test_lower_orders_count_company_not_occurrences(corpora):
    """Kneser & Ney's example: francisco is frequent but follows san alone, so it is unlikely after a new word."""
    texts = ["san francisco"] * 30 + ["a cat", "the cat", "one cat", "my cat", "red dog", "big dog", "old house"]
    model = model_of(corpora, texts, perplexity_order=2)
    city, cat = model.perplexities(pa.array(["unheard francisco", "unheard cat"]))
    assert cat < city


def test_discounts_are_those_of_chen_and_goodman():
    """n1..n4 = 10, 5, 3, 2: Y = .5; D1 = 1 - 2 Y 5/10, D2 = 2 - 3 Y 3/5, D3 = 3 - 4 Y 2/3."""
    counts = np.repeat([1, 2, 3, 4, 9], [10, 5, 3, 2, 1])
    assert discounts(counts) == pytest.approx([0, 0.5, 1.1, 3 - 4 / 3])
    assert discounts(np.array([1, 1, 2])).tolist() == [0, *FALLBACK]


def test_text_like_the_reference_is_less_surprising(corpora):
    reference = sentences(300, words=["river", "council", "archive", "ship", "letter"], most=20)
    model = model_of(corpora, reference)
    like, unlike, foreign = model.perplexities(pa.array([
        "the river the ship river river council", "letter letter letter letter letter letter letter", "zig zag zog zug"
    ]))  # fmt: skip
    assert like < unlike < foreign


def test_characters_are_units_of_scripts_without_spaces(corpora):
    pick = random.Random(4)
    texts = ["".join(pick.choices("山川月日", k=12)) for _ in range(60)]
    by_word, by_character = (
        model_of(corpora, texts, perplexity_unit=u, perplexity_min_count=2) for u in ("word", "character")
    )
    new = pa.array(["月日山川日、月", "金銭金銭金銭"])
    assert len(by_word.words) == 0
    assert by_character.perplexities(new)[0] < 6 < by_character.perplexities(new)[1]


def test_case_and_punctuation_do_not_matter_and_neighbours_neither(corpora):
    model = model_of(corpora, sentences(50))
    texts = pa.array(["a b c", "A, b... (C)!", "", "h", "a b c"], pa.large_string())
    whole = model.perplexities(texts)
    assert whole[0] == whole[1] == whole[4]
    assert whole.tolist() == [model.perplexities(texts.slice(at, 1))[0] for at in range(5)]
    assert len(model.perplexities(texts.slice(0, 0))) == 0


def test_the_same_documents_give_the_same_bytes_however_they_are_split(tmp_path):
    contents = set()
    for number, cut in enumerate((80, 30, 80)):
        corpora = Corpora(tmp_path / str(number))
        names, said = [f"doc {n}" for n in range(80)], sentences(80)
        some = [corpora.clean("a/1", said[:cut], names=names[:cut])]
        some += [corpora.clean("b/1", said[cut:], names=names[cut:])] if cut < 80 else []
        made = trained(corpora, some[::-1])
        contents.add(tuple(made.local(name).read_bytes() for name in made.names(".arrow")))
    assert len(contents) == 1


def test_rare_words_are_one_unknown_word(corpora):
    made = trained(corpora, [corpora.clean("a/1", ["a a b", "a c"])], perplexity_min_count=2)
    assert made.counts["tokens"] == 5
    assert made.counts["unknown"] == 2
    assert made.counts["1_grams"] == 4
    assert made.facts["unknown_ratio"] == 0.4
    found = NgramModel.load(made).perplexities(pa.array(["a b", "a c", "a z"]))
    assert found[0] == found[1] == found[2]


def test_a_reference_without_words_is_refused(corpora):
    with pytest.raises(ValueError, match="needs words"):
        trained(corpora, [corpora.clean("a/1", ["...", ""])])
