"""Subwords: what a tokenizer learns from texts, by one of four algorithms, all of them over bytes.

Every text is first cut into GPT-2's units and written in an alphabet of 256 characters, one for each byte. All of them
are in every vocabulary, so that no algorithm knows an unknown token: every text comes back from its tokens unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipelines.vocabulary import VocabularyRecipe

BYTES = 256
CONTINUES = "\u2040"  # before WordPiece's tokens that begin no word; "##" is a word of the alphabet, this is not
LONGEST_WORD = 100  # characters that WordPiece looks at together: it takes the square of them to match
DIGITS = 6  # of a unigram's score: sums of floats differ from the 14th on with the order of words, which is random
FILLED = 0.03  # scores of bytes that are not in the texts lie at most so far above the lowest


def least_size(algorithm: str, num_specials: int) -> int:
    """Tokens without which not every text can be said."""
    return num_specials + (2 * BYTES if algorithm == "wordpiece" else BYTES)


def learned(texts: Iterable[str], recipe: VocabularyRecipe, specials: list[str]) -> dict[str, Any]:
    """A ``tokenizer.json``, special tokens first; where the texts give too few tokens, it is filled up to the size.

    What fills it are tokens that no text can produce.
    """
    if recipe.algorithm == "bytes":
        texts = ()
    body = json.loads(_LEARN[recipe.algorithm](iter(texts), recipe, specials).to_str())
    model = body["model"]
    if recipe.algorithm == "unigram":
        model["vocab"] = _settled(model["vocab"], len(specials))
        model["vocab"] += [[_unused(number), -1e4] for number in range(len(model["vocab"]), recipe.size)]
    else:
        model["vocab"] |= {_unused(number): number for number in range(len(model["vocab"]), recipe.size)}
    body["added_tokens"] = [token for token in body["added_tokens"] if token["content"] in specials]
    return body


def _unused(number: int) -> str:
    return f"<|unused-{number}|>"


def _bpe(texts: Iterator[str], recipe: VocabularyRecipe, specials: list[str]) -> Tokenizer:
    from tokenizers import models, trainers

    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.size,
        min_frequency=recipe.min_frequency,
        special_tokens=specials,
        initial_alphabet=_alphabet(),  # all bytes, seen or not: no unknown token
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigram(texts: Iterator[str], recipe: VocabularyRecipe, specials: list[str]) -> Tokenizer:
    from tokenizers import models, trainers

    tokenizer = _byte_level(models.Unigram())
    trainer = trainers.UnigramTrainer(
        vocab_size=recipe.size, special_tokens=specials, initial_alphabet=_alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _settled(vocab: list[list[Any]], num_specials: int) -> list[list[Any]]:
    """A unigram's tokens by score, rounded; bytes that are not in the texts, which it scores at random, as the lowest."""
    specials, pieces = vocab[:num_specials], vocab[num_specials:]
    lowest = min(score for _, score in pieces)
    scores = {piece: lowest if len(piece) == 1 and score < lowest + FILLED else score for piece, score in pieces}
    rounded = [[piece, round(score, DIGITS)] for piece, score in scores.items()]
    return [*specials, *sorted(rounded, key=lambda entry: (-entry[1], entry[0]))]


def _wordpiece(texts: Iterator[str], recipe: VocabularyRecipe, specials: list[str]) -> Tokenizer:
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    tokenizer = _byte_level(models.WordPiece(unk_token=specials[0], max_input_chars_per_word=LONGEST_WORD))
    cut = pre_tokenizers.Split(Regex(f".{{1,{LONGEST_WORD}}}"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer, cut])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(CONTINUES, ""), decoders.ByteLevel()])
    trainer = trainers.WordPieceTrainer(
        vocab_size=recipe.size,
        min_frequency=recipe.min_frequency,
        # named before they are met, so that their numbers do not depend on the order in which they are
        special_tokens=[*specials, *_alphabet(), *(CONTINUES + character for character in _alphabet())],
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _byte_level(model: Any) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


_LEARN = {"bpe": _bpe, "unigram": _unigram, "wordpiece": _wordpiece, "bytes": _bpe}
