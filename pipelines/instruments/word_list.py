"""Word lists: words and phrases that a team does not want to see, and how often each document has them.

The list is the user's own; none is shipped. C4 (Raffel et al. 2020, section 2.2) dropped every page with any word of
its list, which is the default bound here; what such a rule costs is told by the signals before it is applied.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import Field

from pipelines.filters.rules import Rule
from pipelines.provenance.recipe import Recipe, digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.instruments.word_list_kernel import Trie

VERSION = "1"
MAX_ENTRY = 200  # characters; a longer line is no phrase but a file of another kind
JOINTS = frozenset(" \t-'\u2019_\u00a0\u3000")  # of an entry: any run of them stands for any run of non-letters

SIGNALS = [
    pa.field("bad_words", pa.int64()),
    pa.field("bad_words_ratio", pa.float64()),  # characters of the words found, of all characters
]
RULES = (
    Rule("bad_words", "bad_words", "bad_words_max", False),
    Rule("bad_words_ratio", "bad_words_ratio", "bad_words_max_ratio", False),
)


class BadWordsRecipe(Recipe):
    """How much of a word list a document may show."""

    bad_words_digest: str = Field(
        default="", pattern="^([0-9a-f]{64})?$", description="blake3 of the list; empty: no list is looked for"
    )
    bad_words_max: int = Field(default=0, ge=0, description="most occurrences in a document (C4, section 2.2: none)")
    bad_words_max_ratio: float = Field(
        default=1.0, ge=0, le=1, description="largest share of a document's characters; 1: no bound"
    )


class WordListError(ValueError):
    """A word list cannot be used; the message names the line, never the word."""


class WordList:
    """Words and phrases in lower case, found as whole words; in scripts without spaces, found anywhere."""

    def __init__(self, trie: Trie, num_entries: int, source: str) -> None:
        self._trie, self.num_entries, self.digest = trie, num_entries, source

    @classmethod
    def read(cls, path: Path | str) -> WordList:
        """A UTF-8 file with one word or phrase a line; a line that begins with # is a comment.

        Case does not matter. Where an entry has white space, a hyphen or an apostrophe, a text may have any run of
        characters that are no letters. An entry begins and ends where a word does; but in scripts without spaces
        (ideographs, kana, Thai, Khmer, Myanmar …) anywhere.

        Raises:
            WordListError: if the file is missing, is no such list, or has no entry.
        """
        from pipelines.instruments.word_list_kernel import trie_of

        path = Path(path)
        data = _read(path)
        entries: dict[tuple[int, ...], None] = {}
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if entry := _entry(line, f"{path.name}:{number}"):
                entries[entry] = None
        if not entries:
            raise WordListError(f"{path.name}: has no entry; a list has one word or phrase a line.")
        return cls(trie_of([list(entry) for entry in entries]), len(entries), digest(data))

    def counts(self, texts: pa.LargeStringArray) -> NDArray[np.int64]:
        """How often each document has an entry: int64 [docs]. The longest entry counts where several begin."""
        return self._found(texts)[0]

    def signals(self, texts: pa.LargeStringArray) -> dict[str, pa.Array]:
        """The columns of SIGNALS."""
        import numpy as np

        counts, covered, totals = self._found(texts)
        ratio = covered / np.maximum(totals, 1)
        return {"bad_words": pa.array(counts, pa.int64()), "bad_words_ratio": pa.array(ratio, pa.float64())}

    def _found(self, texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        from pipelines.instruments.word_list_kernel import found, lower_and_class
        from pipelines.words import text_buffers

        return found(*text_buffers(texts), *lower_and_class(), *self._trie)


def list_digest(path: Path) -> str:
    """What :attr:`WordList.digest` will be, without reading the entries.

    Raises:
        WordListError: if there is no list at this path.
    """
    return digest(_read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WordListError(f"{path.name}: cannot be read: {(error.strerror or str(error)).lower()}.") from None


def _entry(line: bytes, where: str) -> tuple[int, ...]:
    """Symbols of one line: lower-case code points, 0 between words; empty for a comment or a blank line."""
    from pipelines.instruments.word_list_kernel import lower_and_class

    try:
        text = unicodedata.normalize("NFC", line.decode()).strip()
    except UnicodeDecodeError:
        raise WordListError(f"{where}: is not UTF-8; save the list as UTF-8.") from None
    if not text or text.startswith("#"):
        return ()
    if len(text) > MAX_ENTRY or not text.replace("\t", " ").isprintable():
        raise WordListError(
            f"{where}: is no word or phrase: {len(text)} characters, expected at most {MAX_ENTRY}, all printable."
        )
    lower, _ = lower_and_class()
    symbols: list[int] = []
    for character in text:
        code = ord(character)
        symbol = 0 if character in JOINTS else int(lower[code]) if code < len(lower) else code
        if symbol or (symbols and symbols[-1]):
            symbols.append(symbol)
    while symbols and symbols[-1] == 0:
        symbols.pop()
    if not symbols:
        raise WordListError(f"{where}: has nothing but hyphens, apostrophes and blanks.")
    return tuple(symbols)
