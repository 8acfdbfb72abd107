"""stemma source: bring one's own text, and see which sources there are."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from pydantic import ValidationError

from assets.cli import JsonOption, SpecOption, StoreOption, console, load_spec, open_store, show_json, source_app, table
from pipelines.provenance.manifest import Key, checked_partition
from pipelines.spec import Spec, SpecError
from pipelines.spec_edit import add_source

PASSAGE_BYTES = 2000  # a book is cut at blank lines into documents of about this size; else it would be one document
SHOWN, SHOWN_CHARS, LOOKED_AT = 3, 300, 100  # documents that are shown, of each; records among which they are sought
FIELDS = ("text_field", "id_field", "url_field", "license_field", "title_field", "date_field")

if TYPE_CHECKING:
    from pipelines.documents import Record
    from pipelines.readers.sniff import Sniffed
    from pipelines.sources import IngestRecipe


class Proposal(NamedTuple):
    """A source that could be added: what was found at its place, and what would be written of it."""

    key: str
    sniffed: Sniffed
    said: dict[str, str]  # fields of its recipe, found or given
    first: list[Record]
    written: dict[str, str | int]  # as it would stand in the spec

    def told(self) -> dict[str, Any]:
        return {
            "source": self.key,
            "sample": [record.text for record in self.first],
            "reader": self.sniffed.reader,
            "compression": self.sniffed.compression,
            "fields": {k: v for k, v in self.said.items() if k in FIELDS},
            "columns": list(self.sniffed.columns),
        }


def _field(flag: str, what: str) -> Any:
    return typer.Option(flag, help=f"Field or column with {what} [default: by its name]")


@source_app.command("add")
def source_add(
    name: Annotated[str, typer.Argument(help="NAME or NAME/SNAPSHOT, for example notes/2026-11")],
    path: Annotated[str, typer.Argument(help="File, directory, URL (s3://, gs://, https://) or name on the hub")],
    licence: Annotated[
        str,
        typer.Option(
            "--license",
            metavar="SPDX",
            help="SPDX expression, for example CC-BY-4.0; left out: as the data state it",
        ),
    ] = "",
    corpus: Annotated[str, typer.Option("--corpus", help="Corpus (and run) that it joins; made if missing")] = "mine",
    reader: Annotated[
        str,
        typer.Option(
            "--reader", help="jsonl, csv, parquet, arrow, text, html, warc, wikipedia, hub [default: as found]"
        ),
    ] = "",
    text_field: Annotated[str, _field("--text-field", "the text")] = "",
    id_field: Annotated[str, _field("--id-field", "the record's own name")] = "",
    url_field: Annotated[str, _field("--url-field", "the address")] = "",
    extractor: Annotated[str, typer.Option("--extractor", help="Of web pages: trafilatura or resiliparse")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking, as without a terminal")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what was found and write nothing")] = False,
    json: JsonOption = False,
    spec: SpecOption = "",
) -> None:
    """Write a source, and if need be its corpus and a run of the same name with the demo's recipes, into stemma.toml.

    Finds out the format and the fields, and shows the first documents before anything is written; then
    `stemma run mine` trains on your text.
    """
    the_spec = load_spec(spec)
    given = {
        "text_field": text_field,
        "id_field": id_field,
        "url_field": url_field,
        "license": _checked_licence(licence),
        "extractor": extractor,
    }
    key = checked_partition(name if "/" in name else f"{name}/1")
    found = _proposal(the_spec, key, _place(path, reader), reader, {k: v for k, v in given.items() if v})
    text = add_source(the_spec.text, key, found.written, corpus, corpus, the_spec)
    runs = [run for run, said in Spec(text, the_spec.path).document.runs.items() if said.corpus == corpus]
    if not json:
        _show(found)
    is_written = not dry_run and (yes or json or _agreed())
    if is_written:
        _replace(the_spec.path, text)
    if json:
        about = {"corpus": corpus, "runs": runs, "spec": str(the_spec.path), "written": is_written}
        show_json({**found.told(), **about})
    elif is_written:
        done = f"source {key} ({found.sniffed.reader}) in corpus {corpus}. Next: stemma run {runs[0]}"
        console.print(f"{the_spec.path.name}: {done}", markup=False)
    else:
        console.print(f"{the_spec.path.name}: nothing was written.", markup=False)


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


def _checked_licence(licence: str) -> str:
    from pipelines.licences import checked_licence

    try:
        return checked_licence(licence)
    except ValueError as error:
        raise SpecError(f"--license {error}.") from None


def _proposal(spec: Spec, key: str, place: Path | str, reader: str, given: dict[str, str]) -> Proposal:
    """Look at the data; what the person gave goes before what was found.

    Raises:
        SpecError: if nothing readable is there, or what was given does not fit it.
    """
    found = _sniffed(place, reader)
    said = {**found.fields, **given, **({"delimiter": found.delimiter} if found.delimiter else {})}
    if "license" in given:
        said.pop("license_field", None)
    first = _sample(_recipe(key, found.reader, said), place)
    written: dict[str, str | int] = {"reader": found.reader, "path": _written(place, spec.path), **said}
    if written.get("text_field") == "text":
        written.pop("text_field")
    if found.reader == "text":
        written["passage_bytes"] = PASSAGE_BYTES
    if like := _cleaning(spec):
        written["cleaning"] = like
    return Proposal(key, found, said, first, written)


def _replace(path: Path, text: str) -> None:
    """The spec as a whole or not at all."""
    scratch = path.with_name(f".{path.name}.writing")
    scratch.write_bytes(text.encode())
    os.replace(scratch, path)


def _place(path: str, reader: str) -> Path | str:
    """A URL or a name on the hub as it is; a path that exists.

    Raises:
        SpecError: if nothing is there.
    """
    from pipelines.readers.remote import is_url

    if is_url(path) or (reader == "hub" and not Path(path).exists()):
        return path
    if not Path(path).exists():
        hint = " A data set of the hub needs --reader hub." if path.count("/") == 1 and path[:1] not in "./" else ""
        raise SpecError(f"{path} does not exist.{hint}")
    return Path(path)


def _sniffed(place: Path | str, reader: str) -> Sniffed:
    """What is at a place; of a URL, its first file is fetched.

    Raises:
        SpecError: if nothing that is known is there.
    """
    from pipelines.readers.remote import Remote
    from pipelines.readers.sniff import Sniffed, sniffed

    try:
        if isinstance(place, Path):
            return sniffed(place, reader)
        if reader == "hub":
            return Sniffed("hub")
        remote = Remote(place)
        reader = reader or remote.sniffed_reader()
        return sniffed(remote.fetched(remote.listed(reader)[0][0]), reader)
    except ValueError as error:
        raise SpecError(str(error)) from None


def _agreed() -> bool:
    """What the person at the terminal says; a script that added sources before there was a question goes on."""
    return not sys.stdin.isatty() or typer.confirm("Write it into the spec?")


def _recipe(key: str, reader: str, said: dict[str, str]) -> IngestRecipe:
    from pipelines.sources import IngestRecipe

    source, _, snapshot = key.rpartition("/")
    try:
        return IngestRecipe(reader=reader, source=source, snapshot=snapshot, **said)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        flag = f"--{first['loc'][0]}".replace("_", "-")
        raise SpecError(f"{flag} {first['input']!r}: {first['msg']}.") from None


def _sample(recipe: IngestRecipe, place: Path | str) -> list[Record]:
    """The first three documents, so that a wrong field name shows before anything is written.

    Raises:
        SpecError: if none of the first hundred records has a text.
    """
    from pipelines.sources import listing, source_records

    try:
        found = listing(recipe, place, is_hashed=False)  # a dump is not read to look at it
    except ValueError as error:
        raise SpecError(str(error)) from None
    # file by file: what comes later may be far away
    each = (record for entry in found.files for record in source_records(recipe, found._replace(files=[entry])))
    try:
        first = list(islice(each, LOOKED_AT))
    except ValueError as error:
        raise SpecError(f"{error} (--text-field, --id-field)") from None
    sound = [record for record in first if not record.problem and record.text.strip()]
    if not sound:
        problem = next((record.problem for record in first if record.problem), "there is no record")
        raise SpecError(
            f"{place}: none of the first {len(first)} records has a text ({problem}). "
            "Name the field with --text-field, or the format with --reader."
        )
    return sound[:SHOWN]


def _show(found: Proposal) -> None:
    """What was found, and the first documents: data, so nothing in it is markup and control characters are escaped."""
    sniffed = found.sniffed
    about = [sniffed.reader, *([f"compressed ({sniffed.compression})"] if sniffed.compression else [])]
    about += [f"{name} {value!r}" for name, value in found.said.items()]
    console.print("found: " + ", ".join(about), markup=False, highlight=False)
    if others := [column for column in sniffed.columns if column not in found.said.values()]:
        console.print(f"other columns: {', '.join(others[:40])!r}", markup=False, highlight=False)
    for number, record in enumerate(found.first, 1):
        known = {"key": record.key, "url": record.url, "title": record.title, "license": record.licence}
        facts = ", ".join(f"{k} {v[:80]!r}" for k, v in known.items() if v)
        console.print(f"{number} {record.uri!r} {facts}", markup=False, highlight=False)
        more = f" … ({len(record.text):,} characters)" if len(record.text) > SHOWN_CHARS else ""
        console.print(f"  {record.text[:SHOWN_CHARS]!r}{more}", markup=False, highlight=False)


def _written(place: Path | str, spec: Path) -> str:
    """Relative to the spec where the data lie beside it, so that a checkout can move; else absolute."""
    if isinstance(place, str):
        return place
    full = place.resolve()
    home = spec.resolve().parent
    return full.relative_to(home).as_posix() if full.is_relative_to(home) else str(full)


def _cleaning(spec: Spec) -> str:
    default = spec.document.default_run
    keys = spec.sources_of(spec.run(default).corpus) if default else []
    return spec.source(keys[0]).cleaning if keys else ""
