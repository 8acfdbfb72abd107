"""stemma audit document: where one came from, what every stage did with it, which models read it. No Dagster, no torch."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from assets.cli import JsonOption, StoreOption, WrongUseError, audit_app, console, open_store, show_json, table
from assets.cut_texts import cut_texts
from assets.examples import texts_of
from assets.side_by_side import comparison
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.lineage import CHECKPOINTS, bases, teacher
from pipelines.provenance.store import Store
from pipelines.provenance.trace import Fate, Tracer, fates, find_documents, has_steps, known


@audit_app.command("document")
def audit_document(
    document: Annotated[str, typer.Argument(help="Id, uri, or text: whole, or a passage of at least eight words")],
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """The whole fate of a document: where it came from, what every stage did, which steps of which models read it."""
    the_store = open_store(store)
    found = dict(find_documents(the_store, document))
    if not found:
        raise WrongUseError(
            f"no document {document[:60]!r} in {the_store.url}. Give an id of 32 hexadecimal digits, a "
            "uri, or a passage of at least eight words as it stands in the text."
        )
    answers = [_answer(the_store, doc_id, artifact) for doc_id, artifact in found.items()]
    if json:
        show_json(answers)
        return
    for answer in answers:
        _show_answer(answer)


def _answer(store: Store, doc_id: bytes, artifact: Artifact) -> dict[str, Any]:
    """Everything that the store knows of one document."""
    tree = [a for asset in ("training_documents", "clean_documents", "raw_documents") for a in known(store, asset)]
    seen_by = []
    for key in store.keys():
        model = store.open(*key) if key.asset in CHECKPOINTS and not key.part else None
        if model is not None and has_steps(model):
            reads = Tracer(model).reads(doc_id)
            seen_by.append(
                {
                    "checkpoint": key.partition,
                    **_line(model),
                    "reads": [
                        {"step": r.step, "slot": r.slot, "first_token": r.start, "tokens": r.length} for r in reads
                    ],
                }
            )
    source = _raw(artifact)
    row = next((r for a in (source, artifact) for r in _rows(a, doc_id)), {})
    found = _ordered(fates(tree, doc_id))
    return {
        "doc_id": doc_id.hex(),
        "source": source.key.partition,
        **_plain(row),
        "fates": [_plain(vars(f)) for f in found],
        **_cuts(tree, doc_id),
        **_survivors(store, doc_id, list(dict.fromkeys(f.survivor for f in found if f.survivor))),
        "read_by": seen_by,
    }


def _line(model: Artifact) -> dict[str, Any]:
    """The models that one began from, nearest first, and the one that taught it; what these read, it has from them."""
    began_from, taught = [base.key.partition for base in bases(model)], teacher(model)
    return ({"began_from": began_from} if began_from else {}) | ({"taught_by": taught.key.partition} if taught else {})


def _survivors(store: Store, doc_id: bytes, survivors: list[bytes]) -> dict[str, Any]:
    """The text of a document that was merged, and the documents that stayed for it with theirs; else nothing."""
    if not survivors:
        return {}
    cleans = known(store, "clean_documents")
    texts = texts_of(cleans, [doc_id, *survivors])
    rows = {one: next((r for a in cleans for r in _rows(a, one)), {}) for one in survivors}
    kept = [{"doc_id": s.hex(), "uri": rows[s].get("uri", ""), "text": texts.get(s, "")} for s in survivors]
    return {"text": texts.get(doc_id, ""), "survivors": kept}


def _cuts(tree: list[Artifact], doc_id: bytes) -> dict[str, Any]:
    """What stages cut out of the document, with the text before and after; else nothing."""
    found = cut_texts(tree, doc_id)
    return {"cuts": [vars(cut) for cut in found]} if found else {}


def _raw(artifact: Artifact) -> Artifact:
    return artifact.input("raw_documents") if artifact.key.asset == "clean_documents" else artifact


def _rows(artifact: Artifact, doc_id: bytes) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    table = artifact.table("documents.arrow")
    return table.filter(pc.equal(table["doc_id"], doc_id)).to_pylist()


STAGES = (
    "raw_documents",
    "clean_documents",
    "signatures",
    "duplicate_clusters",
    "unique_documents",
    "heldout_documents",
    "training_documents",
    "token_shards",
    "heldout_shards",
)


def _ordered(found: list[Fate]) -> list[Fate]:
    return sorted(found, key=lambda f: (STAGES.index(f.stage) if f.stage in STAGES else len(STAGES), f.part))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in row.items() if v not in (None, "")}


def _show_answer(answer: dict[str, Any]) -> None:
    console.print(f"\n[bold]{answer['doc_id']}[/] {escape(answer.get('uri', ''))}", highlight=False)
    console.print(
        f"{answer['source']} · {answer.get('file', '')} line {answer.get('position', '?')} · "
        f"{answer.get('licence', '')} · {answer.get('num_bytes', 0):,} bytes",
        markup=False,
        highlight=False,
    )
    rows = [[f["stage"], f["fate"], _because(f)] for f in answer["fates"]]
    console.print(table("fate", "stage", "fate", "because", rows=rows))
    for cut in answer.get("cuts", []):
        console.print(
            f"{cut['stage']} cut {cut['words']:,} words in {len(cut['spans'])} spans; {cut['words_left']:,} are left",
            highlight=False,
        )
        console.print(comparison(cut["before"], cut["after"], ("as it was", "as it is left")))
    for survivor in answer.get("survivors", []):
        titles = ("this document", f"{survivor['doc_id'][:12]}… {escape(survivor['uri'])}, which stays")
        if answer["text"] == survivor["text"]:
            console.print(f"{titles[1]}: the same {len(answer['text']):,} characters", highlight=False)
        else:
            console.print(comparison(answer["text"], survivor["text"], titles))
    for model in answer["read_by"]:
        reads = model["reads"]
        steps = ", ".join(dict.fromkeys(str(r["step"]) for r in reads)) or "never"
        console.print(
            f"read by [bold]{model['checkpoint']}[/] in {len(reads)} sequences, steps: {steps}"
            + (f" (it began from {', then '.join(model['began_from'])})" if "began_from" in model else "")
            + (f" (it was taught by {model['taught_by']})" if "taught_by" in model else ""),
            highlight=False,
        )


def _because(fate: dict[str, Any]) -> str:
    if fate["fate"] == "merged":
        if "jaccard" not in fate:
            return f"into {fate['survivor'][:12]}…, cosine {fate['value']:.3f}, {fate['method']}"
        held = f", {fate['value']:.0%} of it stand there" if "value" in fate else ""
        return f"into {fate['survivor'][:12]}…, Jaccard {fate['jaccard']:.2f}, {fate['method']}{held}"
    value = f" ({fate['value']:g})" if "value" in fate else ""
    return f"{fate.get('reason', '')}{value}"
