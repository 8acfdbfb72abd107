"""stemma artifacts and gc: what lies in the store, and what could go."""

from __future__ import annotations

from typing import Annotated

import typer

from assets.cli import JsonOption, StoreOption, app, console, open_store, show_json, table


@app.command()
def artifacts(
    asset: Annotated[str, typer.Argument(help="Only this asset")] = "",
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """Every published artifact: asset, partition, digest (who it is), content (what its bytes are), path."""
    the_store = open_store(store)
    found = [a for key in the_store.keys() if asset in ("", key.asset) and not key.part and (a := the_store.get(key))]
    rows = [
        {
            "asset": a.key.asset,
            "partition": a.key.partition,
            "digest": a.digest,
            "content": a.content,
            "path": f"{the_store.url}/{a.prefix}",
        }
        for a in found
    ]
    if json:
        show_json(rows)
        return
    sizes = [
        sum(f.bytes for part in {p.digest: p for p in [a, *a.parts()]}.values() for f in part.manifest.files)
        for a in found
    ]
    console.print(
        table(
            "artifacts",
            "asset",
            "partition",
            "digest",
            "content",
            "#bytes",
            "path",
            rows=[
                [r["asset"], r["partition"], r["digest"][:12], r["content"][:12], size, r["path"]]
                for r, size in zip(rows, sizes, strict=True)
            ],
        )
    )


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Really remove; without it only the list is shown.")] = False,
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """What no published artifact leads to: superseded artifacts and attempts that never ended. A dry run first."""
    from pipelines.provenance.gc import collect, find_garbage

    the_store = open_store(store)
    garbage = find_garbage(the_store)
    total = sum(item.num_bytes for item in garbage)
    if delete:
        collect(the_store, garbage)
    if json:
        show_json(
            {
                "deleted": delete,
                "bytes": total,
                "attempts": [
                    {
                        **item.key._asdict(),
                        "path": item.prefix,
                        "bytes": item.num_bytes,
                        "kind": "superseded" if item.manifest else "unfinished",
                    }
                    for item in garbage
                ],
            }
        )
        return
    if garbage:
        console.print(
            table(
                "garbage",
                "asset",
                "partition",
                "part",
                "kind",
                "#bytes",
                rows=[
                    [
                        i.key.asset,
                        i.key.partition,
                        i.key.part,
                        "superseded" if i.manifest else "unfinished",
                        i.num_bytes,
                    ]
                    for i in garbage
                ],
            )
        )
    console.print(
        f"{len(garbage)} attempts, {total:,} bytes "
        + ("removed." if delete else "could go: stemma gc --delete" if garbage else "could go."),
        highlight=False,
    )
