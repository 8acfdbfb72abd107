"""Toy stages for the tests of the store: raw texts, their loud form, and a book with one part a text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import Built, build
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store

DEEP = os.environ.get("STEMMA_DEEP") == "1"


class RawRecipe(Recipe):
    text: str = "one two three"


class LoudRecipe(Recipe):
    marks: int = Field(default=1, ge=0)


class Workshop:
    """Builds toy artifacts in one store; ``computed`` lists what was not answered by the memo."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.computed: list[str] = []

    def raw(self, partition: str, text: str = "one two three", **options) -> Built:
        def make(draft: Draft) -> Artifact:
            self.computed.append(f"raw {partition}")
            return write_raw(draft, text)

        return build(self.store, Key("raw", partition), "1", RawRecipe(text=text), [], make, **options)

    def loud(self, raw: Artifact, version: str = "1", marks: int = 1, **options) -> Built:
        def make(draft: Draft) -> Artifact:
            self.computed.append(f"loud {raw.key.partition}")
            return write_loud(draft, raw, marks)

        key = Key("loud", raw.key.partition)
        return build(self.store, key, version, LoudRecipe(marks=marks), [raw], make, **options)

    def book(self, chapters: Mapping[str, Artifact], name: str = "all", **options) -> Built:
        """One part a chapter, each from its own input."""

        def chapter(text: Artifact) -> Callable[[Draft], Artifact]:
            def make(draft: Draft) -> Artifact:
                self.computed.append(f"chapter {draft.key.part}")
                return write_loud(draft, text, 1)

            return make

        def make(draft: Draft) -> Artifact:
            parts = [draft.part(source, LoudRecipe(), [text], chapter(text)) for source, text in chapters.items()]
            return draft.seal(counts={"chapters": len(parts)}, parts=parts)

        key = Key("book", name)
        return build(self.store, key, "1", LoudRecipe(), list(chapters.values()), make, **options)


def write_raw(draft: Draft, text: str) -> Artifact:
    words = pa.table({"word": pa.array(text.split(), pa.large_string())})
    draft.write("words.arrow", words)
    draft.write_json("about/text.json", {"text": text})
    return draft.seal(counts={"words": words.num_rows})


def write_loud(draft: Draft, raw: Artifact, marks: int) -> Artifact:
    words = raw.table("words.arrow")["word"].to_pylist()
    draft.path("loud.txt").write_text(" ".join(words).upper() + "!" * marks)
    return draft.seal(counts={"words": len(words)}, facts={"loudest": max(words, default="")})


def make_small_world(store: Store) -> Workshop:
    """Two texts, one of them revised, and everything made from them."""
    workshop = Workshop(store)
    first, second = workshop.raw("a/1").artifact, workshop.raw("b/1", "four five").artifact
    workshop.loud(first)
    workshop.book({"a/1": first, "b/1": second})
    revised = workshop.raw("b/1", "four five six").artifact
    workshop.book({"a/1": first, "b/1": revised})
    workshop.loud(first, marks=2)
    return workshop


EVIDENCE = ("artifacts/", "refs/", "ledger/", "circumstances/")


def evidence(root: Path) -> list[Path]:
    """Every file of a local store that proves something."""
    paths = (path for folder in EVIDENCE for path in (root / folder).rglob("*"))
    return sorted(path for path in paths if path.is_file())


def kind(path: Path, root: Path) -> str:
    """manifest, artifact file, ref, ledger or circumstances."""
    folder = path.relative_to(root).parts[0]
    return ("manifest" if path.name.endswith(".manifest.json") else "file") if folder == "artifacts" else folder


def mentions(lines: list[str], path: str) -> bool:
    return any(re.search(re.escape(path), line) for line in lines)
