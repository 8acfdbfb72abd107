"""The kernels of containment: blocks of words, who may hold them, and who does, word for word.

Import this module only inside functions, never where the graph is defined: it compiles.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.words import gram_hash


@njit(cache=True, nogil=True)
def num_blocks(num_words, n):
    """Blocks of n words that a document is cut into; the last one ends with it. None of a shorter document."""
    return 0 if num_words < n else (num_words + n - 1) // n


@njit(cache=True, nogil=True)
def block_start(block, num_words, n):
    return min(block * n, num_words - n)


@njit(cache=True, nogil=True)
def blocks(words, offsets, n):
    """Hashes of the blocks of each document, and where those of each begin: int64 [documents + 1]."""
    num_docs = offsets.size - 1
    begins = np.zeros(num_docs + 1, np.int64)
    for doc in range(num_docs):
        begins[doc + 1] = begins[doc] + num_blocks(offsets[doc + 1] - offsets[doc], n)
    keys = np.empty(begins[-1], np.uint64)
    for doc in range(num_docs):
        size = offsets[doc + 1] - offsets[doc]
        for block in range(begins[doc + 1] - begins[doc]):
            keys[begins[doc] + block] = gram_hash(words, offsets[doc] + block_start(block, size, n), n)
    return keys, begins


@njit(cache=True, nogil=True)
def candidates(docs, sizes, begins, keys, list_begins, lists, n, coverage):
    """Pairs (place of a document, number of an earlier one that may hold it), int64 [pairs, 2].

    Args:
        docs: numbers of the documents.
        sizes: their words.
        begins: [documents + 1], where the blocks of each begin in ``keys``.
        keys: of each block the number of its hash.
        list_begins: [hashes + 1], where the documents that hold each begin in ``lists``.
        lists: numbers of documents, ascending for each hash.
        n: words of a block.
        coverage: share of the words of a document that another one must hold.

    Whoever holds so much of a document lacks but so many of its blocks, and so has one of any that are one more:
    only those are looked up, the rarest.
    """
    out = np.empty((256, 2), np.int64)
    count = 0
    for place in range(docs.size):
        first, last = begins[place], begins[place + 1]
        spare = (1.0 - coverage) * sizes[place] + 1e-9
        rest = sizes[place] % n or n  # words that the last block alone has
        lacking = 0 if spare < rest else 1 + np.int64((spare - rest) / n)
        rarity = np.empty(last - first, np.int64)
        for block in range(first, last):
            rarity[block - first] = list_begins[keys[block] + 1] - list_begins[keys[block]]
        order = np.argsort(rarity)
        begin = count
        for index in range(min(lacking + 1, last - first)):
            key = keys[first + order[index]]
            for at in range(list_begins[key], list_begins[key + 1]):
                if lists[at] >= docs[place]:
                    break
                if count == out.shape[0]:
                    longer = np.empty((2 * count, 2), np.int64)
                    longer[:count] = out
                    out = longer
                out[count, 0], out[count, 1] = place, lists[at]
                count += 1
        if lacking and count > begin:  # several blocks may name the same document
            hosts = np.unique(out[begin:count, 1])
            out[begin : begin + hosts.size, 1] = hosts
            count = begin + hosts.size
    return out[:count].copy()


@njit(cache=True, nogil=True)
def coverages(host, grams, words, offsets, wanted, n):
    """Of each wanted document the share of its words that lie in blocks which the host holds, word for word.

    ``grams`` are the hashes of the n-grams of the host, whose words ``host`` are.
    """
    size = 16
    while size < 2 * grams.size:
        size *= 2
    slots = np.full(size, -1, np.int64)
    following = np.full(grams.size, -1, np.int64)  # another n-gram of the same slot
    for at in range(grams.size):
        slot = np.int64(grams[at] & np.uint64(size - 1))
        known = slots[slot]
        while known >= 0 and grams[known] != grams[at]:
            known = following[known]
        if known < 0:
            following[at] = slots[slot]
            slots[slot] = at
    out = np.zeros(wanted.size, np.float64)
    for index in range(wanted.size):
        begin, end = offsets[wanted[index]], offsets[wanted[index] + 1]
        covered, reached = 0, begin
        for block in range(num_blocks(end - begin, n)):
            start = begin + block_start(block, end - begin, n)
            at = slots[np.int64(gram_hash(words, start, n) & np.uint64(size - 1))]
            while at >= 0 and not _same(host, at, words, start, n):
                at = following[at]
            if at >= 0:
                covered += start + n - max(start, reached)
                reached = start + n
        out[index] = covered / (end - begin)
    return out


@njit(cache=True, nogil=True)
def _same(one, at, other, start, n):
    for step in range(n):
        if one[at + step] != other[start + step]:
            return False
    return True
