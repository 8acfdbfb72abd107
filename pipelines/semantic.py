"""Semantic near-duplicates: documents that say the same in other words, by the cosine of their embeddings.

SemDeDup (Abbas et al. 2023): embeddings are clustered by k-means, and within a cluster a document goes if its cosine
with one that stays reaches the threshold. The paper keeps the document that lies farthest from the centre; here, as in
all of deduplication, the first one in the order of survival stays, and a document goes only for one that stays. A pair
that the clusters part is not found: fewer clusters find more, and one finds all.

An embedding is the mean of the last hidden states over a text's first tokens (or the first of them, where a directory
of sentence-transformers says so), of unit length, rounded to 16-bit integers. Products of those are exact in double
precision, so that nothing after the network depends on threads, blocks or libraries. The network itself reads one text
at a time on one thread: its bits are those of one kind of processor, as with everything that a network makes.

Memory: 2 bytes a dimension and document (770 MB for a million of 384), and a block of a cluster's products.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.provenance.manifest import file_entry
from pipelines.provenance.recipe import canonical_json, digest

METHOD = "semantic"
SCALE = 32767  # of a unit vector's components
ROUNDS = 10  # of k-means
CLUSTER_DOCS = 4000  # a cluster, on average, where the recipe does not say how many there are
BLOCK = 512  # documents of a cluster that are compared at once

I16, I64, F64 = NDArray[np.int16], NDArray[np.int64], NDArray[np.float64]


class EmbedderError(ValueError):
    """A directory holds no network that gives embeddings."""


class Embedder(NamedTuple):
    """Where a network lies, and how its states become one vector."""

    folder: Path  # as transformers reads it
    of_first: bool  # the state of the first token instead of the mean


def embedder(folder: Path) -> Embedder:
    """A directory of sentence-transformers or of transformers (what ``stemma export`` writes is one).

    Raises:
        EmbedderError: if it is neither, or pools in a way that is not known here.
    """
    modules = folder / "modules.json"
    if modules.is_file():
        kinds = {module["type"].rpartition(".")[2]: folder / module["path"] for module in _json(modules)}
        if unknown := sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"}):
            raise EmbedderError(f"{folder}: has a module {unknown[0]}; Transformer, Pooling and Normalize are known.")
        pooling = _json(kinds["Pooling"] / "config.json") if "Pooling" in kinds else {}
        ways = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on]
        if ways not in ([], ["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
            raise EmbedderError(f"{folder}: pools by {', '.join(ways)}; the mean or the first token is known.")
        found = Embedder(kinds.get("Transformer", folder), ways == ["pooling_mode_cls_token"])
    else:
        found = Embedder(folder, of_first=False)
    if not (found.folder / "config.json").is_file() or not any(found.folder.glob("*.safetensors")):
        raise EmbedderError(
            f"{found.folder}: expected config.json, a tokenizer and weights in safetensors, as sentence-transformers or "
            "transformers save a model; pickled weights are not read."
        )
    return found


def model_digest(folder: Path) -> str:
    """blake3 over the sorted (path, bytes, blake3) of a model's files.

    Raises:
        EmbedderError: as :func:`embedder`.
    """
    embedder(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    entries = [file_entry(folder, name) for name in names if not name.startswith(".")]
    return digest(canonical_json([[entry.path, entry.bytes, entry.blake3] for entry in entries]))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EmbedderError(f"{path}: cannot be read as JSON ({error}).") from None


def embedded(texts: Iterable[str], folder: Path, max_tokens: int) -> I16:
    """[texts, dimensions]: unit vectors times :data:`SCALE`; zeros for a text without tokens.

    Raises:
        EmbedderError: if the libraries are not there, or they cannot load the directory.
    """
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise EmbedderError("embeddings need torch and transformers: pip install -e '.[training]'.") from None
    found = embedder(folder)
    place = str(found.folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
        network: Any = AutoModel.from_pretrained(
            place, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:
        raise EmbedderError(f"{place}: transformers cannot load it ({type(error).__name__}: {error}).") from error
    network.eval()
    rows = []
    with _one_thread(torch), torch.inference_mode():
        for text in texts:
            tokens = tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt", verbose=False)
            if tokens["input_ids"].shape[1] == 0:
                rows.append(None)
                continue
            ids, mask = tokens["input_ids"], tokens["attention_mask"]
            states_TD = network(input_ids=ids, attention_mask=mask).last_hidden_state[0].double()
            vector_D = states_TD[0] if found.of_first else states_TD.mean(0)
            rows.append((vector_D / vector_D.norm().clamp_min(1e-12)).numpy())
    return _rounded(rows)


def _rounded(rows: list[F64 | None]) -> I16:
    width = next((len(row) for row in rows if row is not None), 1)
    vectors = np.zeros((len(rows), width), np.int16)
    for number, row in enumerate(rows):
        if row is not None:
            vectors[number] = np.rint(row * SCALE)
    return vectors


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Stars(NamedTuple):
    """For each document the one that it goes for (-1: it stays), and their cosine."""

    survivor: I64
    cosine: F64


def stars(vectors: I16, threshold: float, clusters: int, seeds: I64) -> Stars:
    """Which documents go, and for which.

    Args:
        vectors: of the documents, in the order in which they survive.
        threshold: cosine with one that stays.
        clusters: of k-means; 0: one for every :data:`CLUSTER_DOCS` documents.
        seeds: documents in random order; the first ones are the centres to begin from.
    """
    number = min(clusters or -(-len(vectors) // CLUSTER_DOCS), len(vectors))
    found = Stars(np.full(len(vectors), -1, np.int64), np.zeros(len(vectors)))
    home = k_means(vectors, seeds[:number]) if number > 1 else np.zeros(len(vectors), np.int64)
    for cluster in range(number):
        _star(vectors, np.flatnonzero(home == cluster), threshold, found)
    return found


def k_means(vectors: I16, seeds: I64) -> I64:
    """The cluster of each vector: that of the nearest centre by cosine, the first of equal ones."""
    centres = vectors[seeds].astype(np.float64)
    home = _nearest(vectors, centres)
    for _ in range(ROUNDS):
        order = np.argsort(home, kind="stable")
        here, begins, counts = np.unique(home[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(vectors[order].astype(np.int64), begins)  # whole numbers: exact in any order
        means = np.rint(sums / counts[:, None])
        lengths = np.sqrt((means**2).sum(1, keepdims=True))
        centres[here] = np.where(lengths > 0, np.rint(means * SCALE / np.maximum(lengths, 1)), centres[here])
        moved = _nearest(vectors, centres)
        if (moved == home).all():
            break
        home = moved
    return home


def _nearest(vectors: I16, centres: F64) -> I64:
    blocks = [vectors[start : start + 8 * BLOCK] for start in range(0, len(vectors), 8 * BLOCK)]
    return np.concatenate(
        [np.zeros(0, np.int64), *((block.astype(np.float64) @ centres.T).argmax(1) for block in blocks)]
    )


def _star(vectors: I16, members: I64, threshold: float, found: Stars) -> None:
    """Decide about the members of one cluster, in their order."""
    staying = np.zeros(0, np.int64)
    for start in range(0, len(members), BLOCK):
        block = members[start : start + BLOCK]
        with_earlier, with_block = _cosines(vectors, block, staying), _cosines(vectors, block, block)
        best = with_earlier.max(1, initial=-1.0)
        whose = staying[with_earlier.argmax(1)] if len(staying) else np.full(len(block), -1)
        stays: list[int] = []
        for row in range(len(block)):
            near = with_block[row, stays]
            if near.max(initial=-1.0) > best[row]:
                best[row], whose[row] = near.max(), block[stays[int(near.argmax())]]
            if best[row] >= threshold:
                found.survivor[block[row]], found.cosine[block[row]] = whose[row], best[row]
            else:
                stays.append(row)
        staying = np.concatenate([staying, block[stays]])


def _cosines(vectors: I16, some: I64, others: I64) -> F64:
    """[some, others]; -1 where one of the two has no direction."""
    one, two = vectors[some].astype(np.float64), vectors[others].astype(np.float64)
    squares = (one**2).sum(1)[:, None] * (two**2).sum(1)[None, :]
    return np.where(squares > 0, one @ two.T / np.sqrt(np.maximum(squares, 1)), -1.0)
