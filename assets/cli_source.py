"""stemma source: bring one's own text, and see which sources there are."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assets.cli import JsonOption, SpecOption, StoreOption, console, load_spec, open_store, show_json, source_app, table
from pipelines.provenance.manifest import Key, checked_partition
from pipelines.spec import Spec, SpecError
from pipelines.spec_edit import add_source

PASSAGE_BYTES = 2000  # a book is cut at blank lines into documents of about this size; else it would be one document

if TYPE_CHECKING:
    from pipelines.sources import IngestRecipe


@source_app.command("add")
def source_add(
    name: Annotated[str, typer.Argument(help="NAME or NAME/SNAPSHOT, for example notes/2026-11")],
    path: Annotated[Path, typer.Argument(help="File or directory: .jsonl (.gz, .zst), .parquet, .txt, .md")],
    licence: Annotated[
        str,
        typer.Option(
            "--license",
            metavar="SPDX",
            help="SPDX expression, for example CC-BY-4.0; left out: as the data state it",
        ),
    ] = "",
    corpus: Annotated[str, typer.Option("--corpus", help="Corpus (and run) that it joins; made if missing")] = "mine",
    reader: Annotated[str, typer.Option("--reader", help="jsonl, parquet or text [default: by the file names]")] = "",
    text_field: Annotated[str, typer.Option("--text-field", help="Field or column that holds the text")] = "text",
    id_field: Annotated[str, typer.Option("--id-field", help="Field or column that names the record")] = "",
    json: JsonOption = False,
    spec: SpecOption = "",
) -> None:
    """Write a source, and if need be its corpus and a run of the same name with the demo's recipes, into stemma.toml.

    Reads the first documents before anything is written; then `stemma run mine` trains on your text.
    """
    from pipelines.licences import UNSTATED, spdx
    from pipelines.sources import IngestRecipe

    the_spec = load_spec(spec)
    key = checked_partition(name if "/" in name else f"{name}/1")
    if not path.exists():
        raise SpecError(f"{path} does not exist.")
    reader = reader or _guessed(path)
    source, _, snapshot = key.rpartition("/")
    if licence and spdx(licence) == UNSTATED != licence:
        raise SpecError(
            f"--license {licence!r} names no licence. Give an SPDX expression, for example CC-BY-4.0 or "
            "'MIT OR Apache-2.0'; for one that SPDX does not list LicenseRef-NAME; left out: as the data state it."
        )
    fields = {"text_field": text_field, "id_field": id_field, "license": licence}
    try:
        recipe = IngestRecipe(reader=reader, source=source, snapshot=snapshot, **fields)  # type: ignore[arg-type]
    except ValueError as error:
        raise SpecError(f"--reader {reader}: {error}") from None
    first = _sample(recipe, path)
    written: dict[str, str | int] = {
        "reader": reader,
        "path": _written(path, the_spec.path),
        **{k: v for k, v in fields.items() if v},
    }
    if text_field == "text":
        written.pop("text_field")
    if reader == "text":
        written["passage_bytes"] = PASSAGE_BYTES
    if like := _cleaning(the_spec):
        written["cleaning"] = like
    text = add_source(the_spec.text, key, written, corpus, corpus, the_spec)
    runs = [name for name, said in Spec(text, the_spec.path).document.runs.items() if said.corpus == corpus]
    scratch = the_spec.path.with_name(f".{the_spec.path.name}.writing")
    scratch.write_bytes(text.encode())
    os.replace(scratch, the_spec.path)
    if json:
        show_json({"source": key, "corpus": corpus, "runs": runs, "spec": str(the_spec.path), "sample": first})
        return
    for number, sampled in enumerate(first, 1):
        console.print(f"{number} {sampled[:160]!r}", markup=False, highlight=False)
    done = f"{the_spec.path.name}: source {key} ({reader}) in corpus {corpus}. Next: stemma run {runs[0]}"
    console.print(done, markup=False)


@source_app.command("list")
def source_list(json: JsonOption = False, store: StoreOption = "", spec: SpecOption = "") -> None:
    """Every source of stemma.toml: reader, licence, the corpora that select it, and what was taken in."""
    the_spec, the_store = load_spec(spec), open_store(store)
    selected = {corpus: the_spec.sources_of(corpus) for corpus in the_spec.document.corpora}
    rows = []
    for key in the_spec.all_sources():
        source, raw = the_spec.source(key), the_store.get(Key("raw_documents", key))
        rows.append(
            {
                "source": key,
                "reader": source.reader,
                "path": source.path,
                "license": source.license or (raw.facts.get("license", "") if raw else ""),
                "corpora": [corpus for corpus, keys in selected.items() if key in keys],
                "documents": raw.counts["kept"] if raw else None,
            }
        )
    if json:
        show_json(rows)
        return
    console.print(
        table(
            "sources",
            "source",
            "reader",
            "licence",
            "corpora",
            "#documents",
            rows=[
                [
                    r["source"],
                    r["reader"],
                    r["license"],
                    ", ".join(r["corpora"]),
                    "not taken in" if r["documents"] is None else r["documents"],
                ]
                for r in rows
            ],
        )
    )


def _sample(recipe: IngestRecipe, path: Path) -> list[str]:
    """The first three texts, so that a wrong field name shows before anything is written.

    Raises:
        SpecError: if none of the first hundred records has a text, or a column is not there.
    """
    from pipelines.provenance.manifest import FileEntry
    from pipelines.records import listed_files
    from pipelines.sources import Listing, source_records

    root, names, ignored = listed_files(path, recipe.reader)
    unhashed = [FileEntry(path=name, bytes=0, blake3="0" * 64) for name in names]  # a dump is not read to look at it
    try:
        first = list(islice(source_records(recipe, Listing(root, unhashed, ignored)), 100))
    except ValueError as error:
        raise SpecError(f"{error} (--text-field, --id-field)") from None
    texts = [record.text for record in first if not record.problem and record.text.strip()]
    if not texts:
        problem = next((record.problem for record in first if record.problem), "there is no record")
        raise SpecError(
            f"{path}: none of the first {len(first)} records has a text ({problem}). "
            "Name the field with --text-field, or the format with --reader."
        )
    return texts[:3]


def _guessed(path: Path) -> str:
    """The reader by the suffix of the file, or of the files of a directory."""
    from pipelines.records import COMPRESSED, SUFFIXES

    names = [path.name] if path.is_file() else sorted(p.name for p in path.rglob("*") if p.is_file())
    for reader, suffixes in SUFFIXES.items():
        endings = (*suffixes, *(s + c for s in suffixes for c in COMPRESSED))
        if any(name.lower().endswith(endings) for name in names):
            return reader
    known = ", ".join(s for suffixes in SUFFIXES.values() for s in suffixes)
    raise SpecError(
        f"{path}: no file with a suffix that is known ({known}; also .gz, .zst). Name the reader with "
        "--reader jsonl, parquet or text."
    )


def _written(path: Path, spec: Path) -> str:
    """Relative to the spec where the data lie beside it, so that a checkout can move; else absolute."""
    full = path.resolve()
    home = spec.resolve().parent
    return full.relative_to(home).as_posix() if full.is_relative_to(home) else str(full)


def _cleaning(spec: Spec) -> str:
    default = spec.document.default_run
    keys = spec.sources_of(spec.run(default).corpus) if default else []
    return spec.source(keys[0]).cleaning if keys else ""
