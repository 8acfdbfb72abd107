"""Small ``clean_documents`` artifacts, written as the cleaning stage writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store

DOCUMENTS = pa.schema([
    ("doc_id", pa.binary(16)), ("key", pa.string()), ("uri", pa.string()), ("file", pa.string()),
    ("position", pa.int64()), ("group", pa.string()), ("licence", pa.string()), ("num_bytes", pa.int64()),
    ("language", pa.string()), ("num_words", pa.int64()), ("sha256_in", pa.binary(32)), ("sha256_out", pa.binary(32)),
])  # fmt: skip
TEXTS = pa.schema([("doc_id", pa.binary(16)), ("text", pa.large_string())])


class Given(Recipe):
    """Stands for whatever made the input of a test."""


def doc_id(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


class Corpora:
    """Builds artifacts in one store; every call of a stage goes through the memo."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)

    def clean(
        self,
        source: str,
        texts: Sequence[str],
        groups: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        licence: str = "MIT",
    ) -> Artifact:
        names = names or [f"{source}:{position}" for position in range(len(texts))]

        def make(draft: Draft) -> Artifact:
            ids = [doc_id(name) for name in names]
            digests = [hashlib.sha256(text.encode()).digest() for text in texts]
            rows = [
                (i, name, f"test:{name}", "a.txt", position + 1, groups[position] if groups else name, licence,
                 len(text.encode()), "en", len(text.split()), sha, sha)
                for position, (i, name, text, sha) in enumerate(zip(ids, names, texts, digests, strict=True))
            ]  # fmt: skip
            draft.write("documents.arrow", pa.Table.from_pylist(
                [dict(zip(DOCUMENTS.names, row, strict=True)) for row in rows], schema=DOCUMENTS))  # fmt: skip
            draft.write("texts.arrow", pa.table([ids, list(texts)], schema=TEXTS))
            kept = fates.all_kept(pa.array(ids, pa.binary(16)))
            draft.write(fates.FILE, kept)
            return draft.seal(counts={"docs": len(ids), **fates.counted(kept)})

        return build(self.store, Key("clean_documents", source), "1", Given(), [], make, force=True).artifact

    def prompts(self, suite: str, items: Sequence[tuple[str, str, str]]) -> Artifact:
        """items: (task, item_id, text)."""

        def make(draft: Draft) -> Artifact:
            columns = {"item_id": [i[1] for i in items], "task": [i[0] for i in items]}
            draft.write(
                "items.arrow", pa.table({**columns, "text": pa.array([i[2] for i in items], pa.large_string())})
            )
            return draft.seal()

        return build(self.store, Key("benchmark_prompts", suite), "1", Given(), [], make, force=True).artifact

    def run(
        self,
        asset: str,
        partition: str,
        version: str,
        recipe: Recipe,
        inputs: Sequence[Artifact],
        make: Callable[[Draft], Artifact],
        *,
        force: bool = False,
    ) -> Artifact:
        return build(self.store, Key(asset, partition), version, recipe, inputs, make, force=force).artifact
