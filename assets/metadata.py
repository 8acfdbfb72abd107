"""What a person reads in the UI beside a materialization: funnel, counts that plot, columns, provenance."""

from typing import Any

import dagster as dg

from assets.markdown import literal
from assets.pictures import shown
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.fates import FATES, KEPT
from pipelines.provenance.tables import read_batches

FIRST_COLUMNS = ("documents.arrow", "signatures.arrow", "merged.arrow", "items.arrow", "sources.arrow", "scores.arrow")


def described(artifact: Artifact) -> dict[str, Any]:
    """Metadata of one materialization, with names that stay the same, so that the UI can plot them over time."""
    metadata: dict[str, Any] = {}
    if "seen" in artifact.counts:
        metadata["funnel"] = dg.MetadataValue.md(funnel(artifact))
        metadata["kept_ratio"] = artifact.counts[KEPT] / max(artifact.counts["seen"], 1)
    metadata.update(shown(artifact))
    metadata.update(artifact.counts)
    metadata.update({name: value for name, value in artifact.facts.items() if _plots(value)})
    rows = artifact.counts.get(KEPT, artifact.counts.get("docs", artifact.counts.get("items")))
    if rows is not None:
        metadata["dagster/row_count"] = rows
    if schema := _schema(artifact):
        metadata["dagster/column_schema"] = schema
    metadata["provenance"] = dg.MetadataValue.md(provenance(artifact))
    metadata["dagster/uri"] = f"{artifact.store.url}/{artifact.prefix}"
    return metadata


def funnel(artifact: Artifact) -> str:
    """In, kept and gone by reason, as a Markdown table."""
    counts = artifact.counts
    seen = max(counts["seen"], 1)
    lines = ["| documents | number | share |", "|---|---:|---:|", f"| in | {counts['seen']:,} | 100 % |"]
    lines += [
        f"| {fate} | {counts[fate]:,} | {counts[fate] / seen:.1%} |" for fate in FATES if counts[fate] or fate == KEPT
    ]
    told = [(reason, number) for reason, number in reasons_of(artifact).items() if reason not in FATES]
    for reason, number in told[:12]:
        lines.append(f"| · {literal(reason)} | {number:,} | {number / seen:.1%} |")
    return "\n".join(lines)


def reasons_of(artifact: Artifact) -> dict[str, int]:
    """Number of documents by what became of those that were not kept, over all parts."""
    from pipelines.provenance.fates import FILE, kinds

    tables = (t for part in artifact.parts() if FILE in part.names() for t in read_batches(part.local(FILE)))
    return kinds(tables)


def provenance(artifact: Artifact) -> str:
    """Digests of the artifact and of what it was made from."""
    manifest = artifact.manifest
    lines = [
        f"**{artifact.key}**",
        "",
        "| | digest |",
        "|---|---|",
        f"| manifest | `{artifact.digest}` |",
        f"| content | `{artifact.content}` |",
        f"| stage version | {manifest.version} |",
    ]
    lines += [f"| from {i.key} | `{i.manifest[:16]}…` |" for i in manifest.inputs[:20]]
    if len(manifest.inputs) > 20:
        lines.append(f"| and {len(manifest.inputs) - 20} more inputs | |")
    recipe = "\n".join(f"| {name} | {literal(value)} |" for name, value in manifest.recipe.items())
    return "\n".join(lines) + f"\n\n| recipe | |\n|---|---|\n{recipe}"


def _plots(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _schema(artifact: Artifact) -> dg.TableSchema | None:
    part = artifact.parts()[0]
    for name in FIRST_COLUMNS:
        if name in part.names():
            return dg.TableSchema([dg.TableColumn(f.name, str(f.type)) for f in part.table(name).schema])
    return None
