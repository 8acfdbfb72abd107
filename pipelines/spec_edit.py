"""Editing the spec: what `stemma source add` writes into ``stemma.toml``. Comments and order stay as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import InlineTable

from pipelines.spec import FILE, Spec, SpecError

TABLES = ("sources", "corpora", "vocabularies", "suites", "runs")  # that are added to


def add_source(text: str, key: str, source: dict[str, Any], corpus: str, run: str, like: Spec | None = None) -> str:
    """``stemma.toml`` with one more source, in a corpus that is made if it is missing, and a run if none reads that corpus.

    A new corpus and run take over every recipe of ``like``'s default run, with a vocabulary and a suite of their own.

    Raises:
        SpecError: if the source exists already, or the outcome would not load; nothing need be undone.
    """
    document = tomlkit.parse(text)
    _check_headers(document)
    sources = document.setdefault("sources", tomlkit.table(is_super_table=True))
    if key in sources:
        raise SpecError(f"{FILE}: source {key!r} exists already; give the new snapshot another name, NAME/SNAPSHOT.")
    sources[key] = _table(source)
    corpora = document.setdefault("corpora", tomlkit.table(is_super_table=True))
    if corpus in corpora:
        _append(corpora[corpus]["sources"], key)
    else:
        _add_corpus(document, key, corpus, like)
    runs = document.setdefault("runs", tomlkit.table(is_super_table=True))
    if run not in runs and all(said["corpus"] != corpus for said in runs.values()):
        runs[run] = _table({"corpus": corpus, **_recipes(like, "runs", ("mixture", "training"))})
    edited = _above_headings(text, tomlkit.dumps(document))
    Spec(edited, like.path if like else Path(FILE))
    return edited


def _check_headers(document: tomlkit.TOMLDocument) -> None:
    """Tomlkit would put a new table between the dotted keys of the others, where it swallows those that follow."""
    for name, table in document.body:
        if name is not None and name.key in TABLES and (name.is_dotted() or isinstance(table, InlineTable)):
            raise SpecError(
                f"{FILE}: {name.key!r} is written in dotted keys or as an inline table, to which nothing can be added. "
                f"Give each of its tables a header of its own, [{name.key}.NAME]."
            )


def _append(array: Any, key: str) -> None:
    """Add to an array; where it has comments on a line of its own, as append forgets the comma before them."""
    written = array.as_string()
    if "#" in written:
        array.add_line(key, indent=re.match(r"[^\n]*\n([ \t]*)", written)[1])  # type: ignore[index]
    else:
        array.append(key)


def _add_corpus(document: tomlkit.TOMLDocument, key: str, corpus: str, like: Spec | None) -> None:
    vocabulary, suite = f"{corpus}-vocabulary", f"{corpus}-suite"
    kinds = ("dedup", "heldout", "decontaminate", "shards", "heldout_shards")
    document["corpora"][corpus] = _table(
        {  # type: ignore[index]
            "sources": [key],
            "vocabulary": vocabulary,
            "suites": [suite],
            **_recipes(like, "corpora", kinds),
        }
    )
    vocabularies = document.setdefault("vocabularies", tomlkit.table(is_super_table=True))
    if vocabulary not in vocabularies:
        vocabularies[vocabulary] = _table({"corpus": corpus, **_recipes(like, "vocabularies", ("recipe",))})
    suites = document.setdefault("suites", tomlkit.table(is_super_table=True))
    if suite not in suites:
        suites[suite] = _table({"corpus": corpus, **_recipes(like, "suites", ("recipe",))})


def _above_headings(before: str, edited: str) -> str:
    """New tables above the comments that head the next section: to tomlkit these end the table that stands before them.

    A comment right under the last line of a table stays with it; one after a blank line speaks of what comes next.
    """
    newline = "\r\n" if "\r\n" in before else "\n"
    old = set(before.replace("\r\n", "\n").split("\n"))
    done: list[str] = []
    heading: list[str] = []  # comments and blank lines that wait for the old table that they head
    for line in edited.replace("\r\n", "\n").split("\n"):
        if line.startswith("[") and line in old:
            done += heading
            heading = []
        elif line.startswith("[") and not heading:
            while done and (not done[-1].strip() or done[-1].startswith("#")):
                heading.insert(0, done.pop())
            while heading and heading[0].strip():
                done.append(heading.pop(0))
            done += [""] if done else []
            heading = heading or [""]
        done.append(line)
    return newline.join(done + heading if any(map(str.strip, heading)) else done)


def _recipes(like: Spec | None, kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The recipe tables of the default run and of what it stands on."""
    if like is None or not like.document.default_run:
        return {}
    run = like.run(like.document.default_run)
    corpus = like.corpus(run.corpus)
    name = {
        "runs": like.document.default_run,
        "corpora": run.corpus,
        "vocabularies": corpus.vocabulary,
        "suites": corpus.suites[0] if corpus.suites else "",
    }[kind]
    entry = getattr(like.document, kind).get(name)
    return {n: value for n in names if entry is not None and (value := getattr(entry, n))}


def _table(values: dict[str, Any]) -> Any:
    table = tomlkit.table()
    for name, value in values.items():
        table[name] = _table(value) if isinstance(value, dict) else value
    return table
