"""stemma generate: let a checkpoint write."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from assets.cli import (
    JsonOption,
    SpecOption,
    StoreOption,
    WrongUseError,
    app,
    console,
    load_spec,
    open_store,
    show_json,
    told,
)
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.lineage import checkpoint
from pipelines.provenance.manifest import PartitionKeyError

if TYPE_CHECKING:
    from training.continuation import Continuation
    from training.generate import Generator

MODEL_HELP = "Run, fine-tune, milestone (RUN@STEP), or directory of an export [default: the spec's default run]"


@app.command()
def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]...", help="What the model goes on from; several are written at once"),
    ] = None,
    run: Annotated[str, typer.Option("--run", metavar="MODEL", help=MODEL_HELP)] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="FILE", help='Prompts: one a line, or as {"prompt": "…"} in a .jsonl; - is standard input'
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="At most so many tokens")] = 120,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Only the k likeliest tokens; 0: all")] = 50,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Only the likeliest tokens of this mass")] = 0.95,
    min_p: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Only tokens with at least this share of the likeliest's probability"),
    ] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: what the text already has becomes less likely; 1.1 is customary")
    ] = 1.0,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="End before this text; may be given several times"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same text, whatever other prompts stand beside it")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="So many prompts are written together")] = 16,
    json: JsonOption = False,
    store: StoreOption = "",
    spec: SpecOption = "",
) -> None:
    """Let a checkpoint write, token by token; several prompts are written together, each as it would be alone."""
    given = [*(prompts or []), *(_read(file) if file is not None else [])]
    if not given:
        raise WrongUseError('there is no prompt: stemma generate "Return the ", or --file FILE; "" begins a document.')
    wishes: dict[str, Any] = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition_penalty, "seed": seed, "stop": tuple(stop or ()),
    }  # fmt: skip
    writer = generator_of(run, store, spec)
    try:
        rows = [writer.continuation(prompt, tokens, **wishes) for prompt in given]
    except ValueError as error:
        raise WrongUseError(str(error)) from None
    if len(given) == 1 and not json:
        _stream(given[0], writer.pieces(rows[0]))
        return
    writer.write(rows, batch_size)
    found = [_entry(prompt, row) for prompt, row in zip(given, rows, strict=True)]
    if json:
        show_json(found)
        return
    for one in found:
        console.rule(characters="─", style="dim")
        console.print(Text.assemble((one["prompt"], "bold"), one["text"]), soft_wrap=True)


def generator_of(name: str, store: str, spec: str) -> Generator:
    """The model by this name in the store, or in this directory.

    Raises:
        WrongUseError: if there is none.
    """
    from training.generate import Generator

    return Generator.load(source_of(name, store, spec), device())


def source_of(name: str, store: str, spec: str) -> Artifact | Path:
    """The checkpoint by this name in the store, or this directory.

    Raises:
        WrongUseError: if there is none.
    """
    name = name or load_spec(spec).document.default_run
    try:
        return checkpoint(open_store(store), name)
    except (StoreError, PartitionKeyError) as error:
        if (Path(name) / "config.json").is_file():
            return Path(name)
        raise WrongUseError(
            f"{error} Nor is {name} a directory with a config.json, as `stemma export` writes it."
        ) from None


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _stream(prompt: str, pieces: Iterable[str]) -> None:
    console.print(Text(prompt, style="bold"), end="", soft_wrap=True)
    for piece in pieces:
        console.print(Text(piece), end="", soft_wrap=True)
    console.print()


def _entry(prompt: str, row: Continuation) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "text": row.text,
        "finish_reason": row.finish_reason,
        "prompt_tokens": len(row.prompt),
        "tokens": len(row.tokens),
    }


def _read(path: Path) -> list[str]:
    """Prompts of a file, in its order; empty lines are none."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise WrongUseError(f"--file {told(error)}; expected a file of prompts, or - for what is piped in.") from None
    except UnicodeDecodeError as error:
        raise WrongUseError(f"--file {path} is no text: {error}.") from None
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
    if path.suffix != ".jsonl":
        return lines
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json_module.loads(line)["prompt"])
        except (ValueError, KeyError, TypeError):
            raise WrongUseError(f'{path}, entry {number}: expected {{"prompt": "…"}}, found {line[:80]!r}.') from None
    return found
