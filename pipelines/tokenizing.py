"""Tokens of texts: those of the ``tokenizers`` library, most of them looked up.

A byte-level tokenizer cuts a text into units (a word with the space before it, a number, a run of white space) and
encodes each by itself. Texts repeat their units: here each different one is encoded once, by the library, and found in
a table ever after. The table changes how long a text takes, never its tokens.

Which units those are, ``unit_rules.py`` says. A tokenizer of other units, or one that does more to a text than is known
there, is used as it is, text by text.
"""

from __future__ import annotations

import functools
import json
import threading
import unicodedata
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.unit_rules import FIRST, SPACE, TABLE_SIZE, cuts, steps, unit_tokenizer, why_whole

TOGETHER = 64  # texts a call: tokenizers encodes a long list 8 times slower than batches of 1 to 64
CACHE_BYTES = 2 << 20  # of text that is encoded at once
MAX_UNITS = 1 << 20  # that the table holds; some 70 MB
MAX_BYTES = 64 << 20  # of units that the table holds

I64 = NDArray[np.int64]


class Table(NamedTuple):
    """Units by number with their tokens, and the slots of a hash table of them (open addressing, -1: free)."""

    slots: NDArray[np.int32]
    hashes: NDArray[np.uint64]  # of the unit in each slot
    data: NDArray[np.uint8]
    offsets: I64  # [units + 1], in data
    ids: NDArray[np.uint32]
    id_offsets: I64  # [units + 1], in ids


def _empty() -> Table:
    nothing, start = np.zeros(0, np.uint8), np.zeros(1, np.int64)
    slots, hashes = np.full(1 << 12, -1, np.int32), np.zeros(1 << 12, np.uint64)
    return Table(slots, hashes, nothing, start, nothing.astype(np.uint32), start)


class Encoder:
    """Encodes columns of texts with one ``tokenizer.json``, special tokens in a text as the text that they are.

    Two threads may share one: they take turns.
    """

    def __init__(self, data: bytes, *, max_units: int = MAX_UNITS, max_bytes: int = MAX_BYTES) -> None:
        from pipelines.vocabulary import plain_tokenizer

        self.tokenizer = plain_tokenizer(data)
        body = json.loads(data)
        self.why_whole = why_whole(body)
        self.max_id = max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        self.max_units, self.max_bytes = max_units, max_bytes
        self.table = _empty()
        self._lock = threading.Lock()
        for token in body["added_tokens"]:  # the library's numbers: it goes on counting where a file leaves gaps
            token["id"] = self.tokenizer.token_to_id(token["content"])
        found = steps(body)
        if found is not None and not self.why_whole:
            self._steps, self._cuts, self._of_units = found, cuts(body, found), unit_tokenizer(body, found)
            self._raw = [t["content"] for t in body["added_tokens"] if not (t["normalized"] or t["special"])]

    def encode(
        self, texts: pa.Array | pa.ChunkedArray, dtype: Any = np.uint32, end_id: int = -1
    ) -> tuple[NDArray[Any], I64]:
        """Tokens of all texts one after another, and where those of each text begin: int64 [texts + 1].

        Args:
            texts: strings, none of them null.
            dtype: of the tokens; the largest id must fit.
            end_id: a token that ends each text, none if it is negative.

        Raises:
            ValueError: if a text is null, or if ``dtype`` is too small for the vocabulary.
        """
        from pipelines.words import pieces

        if max(self.max_id, end_id) > np.iinfo(dtype).max:
            raise ValueError(
                f"the vocabulary has ids up to {max(self.max_id, end_id)}, and {np.dtype(dtype)} holds ids up to "
                f"{np.iinfo(dtype).max}: ask for a larger one."
            )
        found = [self._piece(piece, np.dtype(dtype), end_id) for piece in pieces(texts, CACHE_BYTES)]
        if len(found) == 1:
            return found[0]
        lengths = [np.diff(offsets) for _, offsets in found]
        tokens = np.concatenate([np.zeros(0, dtype), *(tokens for tokens, _ in found)])
        return tokens, np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]))])

    def _piece(self, texts: pa.Array, dtype: np.dtype[Any], end_id: int) -> tuple[NDArray[Any], I64]:
        if self.why_whole:
            return self._whole(texts.to_pylist(), dtype, end_id)
        with self._lock:
            if self._steps.is_nfc:
                return self._composed(texts, dtype, end_id)
            return self._by_units(texts, dtype, end_id)

    def _whole(self, texts: list[str], dtype: np.dtype[Any], end_id: int) -> tuple[NDArray[Any], I64]:
        found = [np.zeros(0, dtype)]
        more = [] if end_id < 0 else [end_id]
        for start in range(0, len(texts), TOGETHER):
            encoded = self.tokenizer.encode_batch_fast(texts[start : start + TOGETHER])
            found += [np.array([*one.ids, *more], dtype) for one in encoded]
        return np.concatenate(found), np.concatenate([[0], np.cumsum([len(one) for one in found[1:]], dtype=np.int64)])

    def _by_units(self, texts: pa.Array, dtype: np.dtype[Any], end_id: int) -> tuple[NDArray[Any], I64]:
        from pipelines import tokenizing_kernel as kernel
        from pipelines.words import text_buffers

        texts = self._prefixed(texts) if self._steps.prefix else texts
        data, rows = text_buffers(texts)
        if len(self.table.offsets) > self.max_units or self.table.data.size > self.max_bytes:
            self.table = _empty()
        bounds, numbers, of_text = kernel.numbered_units(data, rows, self._cuts, self.table)
        unknown = np.flatnonzero(numbers == kernel.UNKNOWN)
        if unknown.size:
            first = kernel.first_ones(data, bounds, unknown)
            self._learn([data[bounds[unit] : bounds[unit + 1]].tobytes() for unit in first])
            kernel.renumber(data, bounds, numbers, unknown, self.table)
        offsets = kernel.token_offsets(numbers, of_text, self.table.id_offsets, int(end_id >= 0))
        tokens = np.empty(offsets[-1], dtype)
        kernel.gather(numbers, of_text, self.table.id_offsets, self.table.ids, end_id, tokens)
        return tokens, offsets

    def _composed(self, texts: pa.Array, dtype: np.dtype[Any], end_id: int) -> tuple[NDArray[Any], I64]:
        """Of texts in Unicode's normal form C, which nearly all of them are in."""
        import pyarrow.compute as pc

        from pipelines.tokenizing_kernel import not_inert
        from pipelines.words import text_buffers

        normal = self.tokenizer.normalizer.normalize_str
        may_change = not_inert(*text_buffers(texts), inert_characters())
        changed = {row: new for row in np.flatnonzero(may_change) if (new := normal(old := texts[row].as_py())) != old}
        # added tokens are cut out before the rest is composed: where that may matter, the library does both
        hard = [
            row for row in changed if any(token in texts[row].as_py() or token in changed[row] for token in self._raw)
        ]
        said = ["" if row in hard else changed[row] for row in changed]
        if changed:
            is_changed = np.zeros(len(texts), np.bool_)
            is_changed[list(changed)] = True
            composed = pc.replace_with_mask(
                texts.cast(pa.large_string()), pa.array(is_changed), pa.array(said, pa.large_string())
            )
        else:
            composed = texts
        tokens, offsets = self._by_units(composed, dtype, end_id)
        for row in reversed(hard):
            ids = self.tokenizer.encode(texts[row].as_py()).ids
            tokens = np.insert(tokens, offsets[row], np.array(ids, dtype))
            offsets[row + 1 :] += len(ids)
        return tokens, offsets

    def _prefixed(self, texts: pa.Array) -> pa.Array:
        """Each with a space before it, but for empty ones and those that get none."""
        import pyarrow.compute as pc

        texts = texts.cast(pa.large_string())
        alone = pc.is_in(texts, pa.array(["", *self._steps.unprefixed], pa.large_string()))
        if self._steps.prefix == FIRST:
            alone = pc.or_(alone, pc.or_(pc.starts_with(texts, " "), pc.starts_with(texts, SPACE)))
        space = pa.scalar(" ", pa.large_string())
        return pc.if_else(alone, texts, pc.binary_join_element_wise(space, texts, pa.scalar("", pa.large_string())))

    def _learn(self, units: list[bytes]) -> None:
        """Add units, each different from all others and from those that are known."""
        from pipelines.tokenizing_kernel import fill

        old = self.table
        ids, id_ends = self._encoded_units([unit.decode() for unit in units])
        offsets = old.data.size + np.cumsum([len(unit) for unit in units], dtype=np.int64)
        data = np.concatenate([old.data, np.frombuffer(b"".join(units), np.uint8)])
        new = old._replace(
            data=data,
            offsets=np.concatenate([old.offsets, offsets]),
            ids=np.concatenate([old.ids, ids]),
            id_offsets=np.concatenate([old.id_offsets, old.ids.size + id_ends]),
        )
        first = len(old.offsets) - 1
        if 2 * len(new.offsets) > old.slots.size:
            size, first = 1 << (4 * len(new.offsets)).bit_length(), 0
            new = new._replace(slots=np.full(size, -1, np.int32), hashes=np.zeros(size, np.uint64))
        fill(new.slots, new.hashes, new.data, new.offsets, first)
        self.table = new

    def _encoded_units(self, units: list[str]) -> tuple[NDArray[np.uint32], I64]:
        ids: list[int] = []
        ends: list[int] = []
        for start in range(0, len(units), TOGETHER):
            for encoding in self._of_units.encode_batch_fast(units[start : start + TOGETHER]):
                ids += encoding.ids
                ends.append(len(ids))
        return np.array(ids, np.uint32), np.array(ends, np.int64)


@functools.lru_cache(maxsize=2)
def encoder(data: bytes) -> Encoder:
    """The encoder of a ``tokenizer.json``, one for all parts that a process encodes."""
    return Encoder(data)


@functools.cache
def inert_characters() -> NDArray[np.bool_]:
    """By code point: characters that normal form C leaves alone and where they are, whatever stands beside them."""
    inert = np.zeros(TABLE_SIZE, np.bool_)
    seconds = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))  # vowels and finals of Hangul
    for code in range(TABLE_SIZE):
        character = chr(code)
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(int(parts[1], 16))
        stays = not unicodedata.combining(character) and unicodedata.normalize("NFC", character) == character
        inert[code] = stays and unicodedata.category(character) not in ("Cn", "Cs")
    inert[sorted(seconds)] = False
    inert.flags.writeable = False
    return inert
