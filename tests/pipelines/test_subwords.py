"""Four algorithms over bytes: every text comes back, the same texts give the same file, tokens are looked up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_shards import PROSE, texts

from pipelines.subwords import CONTINUES, LONGEST_WORD, learned
from pipelines.tokenizing import Encoder
from pipelines.vocabulary import SPECIALS, VocabularyRecipe

ALGORITHMS = {"bpe": 700, "unigram": 700, "wordpiece": 700, "bytes": 260}
SAID = [*texts("a", 20), *PROSE]
BODIES = {
    name: learned(SAID, VocabularyRecipe(algorithm=name, size=size), list(SPECIALS))
    for name, size in ALGORITHMS.items()
}
ENCODERS = {name: Encoder(json.dumps(body).encode()) for name, body in BODIES.items()}
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def pieces(body):
    vocab = body["model"]["vocab"]
    return [entry if isinstance(entry, str) else entry[0] for entry in vocab]


@settings(max_examples=150)
@given(text=ANY_TEXT)
@example(text="\0\x7f\r\n \t\u0085\u2028")
@example(text="## ##a " + CONTINUES + " a" + CONTINUES)
@example(text="".join(SPECIALS))
@example(text="<|unused-699|> <|unused-650|>")
@example(text="a" * (LONGEST_WORD * 3 + 1))
@example(text="é中" * LONGEST_WORD)
def test_every_text_comes_back_and_holds_no_special_token(text):
    for name, encode in ENCODERS.items():
        ids = encode.tokenizer.encode(text).ids
        assert encode.tokenizer.decode(ids, skip_special_tokens=False) == text, name
        assert not set(ids) & {0, 1, 2, 3}, name
        assert encode.encode(pa.array([text], pa.large_string()))[0].tolist() == ids, name


@pytest.mark.parametrize("name", ALGORITHMS)
def test_units_of_every_algorithm_are_looked_up(name):
    encode = ENCODERS[name]
    assert encode.why_whole == ""
    assert encode.encode(pa.array(SAID, pa.large_string()))[0].tolist() == [
        i for text in SAID for i in encode.tokenizer.encode(text).ids
    ]
    assert len(encode.table.offsets) > 50


@pytest.mark.parametrize(("name", "size"), ALGORITHMS.items())
def test_a_vocabulary_has_the_size_asked_for_and_special_tokens_first(name, size):
    tokenizer = ENCODERS[name].tokenizer
    assert tokenizer.get_vocab_size() == size
    assert sorted(tokenizer.get_vocab().values()) == list(range(size))
    assert [tokenizer.token_to_id(token) for token in SPECIALS] == [0, 1, 2, 3]
    assert [token["content"] for token in BODIES[name]["added_tokens"]] == list(SPECIALS)


def test_all_but_bytes_make_texts_shorter():
    lengths = {name: sum(len(encode.tokenizer.encode(text)) for text in SAID) for name, encode in ENCODERS.items()}
    num_bytes = sum(len(text.encode()) for text in SAID)
    assert lengths["bytes"] == num_bytes
    assert all(lengths[name] < 0.6 * num_bytes for name in ("bpe", "unigram", "wordpiece"))


def test_a_vocabulary_that_is_not_filled_by_the_texts_is_filled_up():
    for name in ("bpe", "unigram", "wordpiece"):
        body = learned(["ab ab ab"], VocabularyRecipe(algorithm=name, size=900), list(SPECIALS))
        unused = [piece for piece in pieces(body) if piece.startswith("<|unused-")]
        assert len(pieces(body)) == 900
        assert len(unused) > 300
        tokenizer = Encoder(json.dumps(body).encode()).tokenizer
        ids = tokenizer.encode(" ".join(unused) + "ab").ids
        assert not {tokenizer.token_to_id(piece) for piece in unused} & set(ids)
        assert tokenizer.decode(ids, skip_special_tokens=False) == " ".join(unused) + "ab"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"algorithm": "bytes", "size": 300}, "size is 300; a vocabulary of bytes has exactly 260 tokens"),
        ({"algorithm": "wordpiece", "size": 515}, "size is 515; a vocabulary of wordpiece has at least 516 tokens"),
        ({"algorithm": "words"}, "algorithm"),
        ({"file_digest": "no digest"}, "file_digest"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        VocabularyRecipe(**fields)


def test_the_file_does_not_depend_on_hash_seed_or_threads():
    here = Path(__file__).parent
    script = (
        "import sys, json, hashlib; sys.path.insert(0, sys.argv[1]);"
        "from test_shards import texts; from pipelines.subwords import learned;"
        "from pipelines.vocabulary import SPECIALS, VocabularyRecipe;"
        "said = texts('a', 60) + texts('b', 60);"
        "print(*(hashlib.sha256(json.dumps(learned(said, VocabularyRecipe(algorithm=n, size=800), list(SPECIALS)))"
        ".encode()).hexdigest() for n in ('bpe', 'unigram', 'wordpiece')))"
    )
    seen = set()
    for seed, threads in [("0", "1"), ("7", "2"), ("8", "3")]:
        env = {**os.environ, "PYTHONPATH": str(here.parents[1]), "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}
        command = [sys.executable, "-c", script, str(here)]
        seen.add(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip())
    assert len(seen) == 1
