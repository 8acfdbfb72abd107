"""The command line. Each verb prints a table for people and, with --json, one JSON document for programs.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 refused by a check or the gate, 4 verification failed.
Heavy rooms are imported inside the verbs: `stemma audit` and `stemma artifacts` run on the base install.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipelines.provenance.files import StoreError
from pipelines.provenance.manifest import ManifestError, PartitionKeyError
from pipelines.provenance.store import Store
from pipelines.spec import Spec, SpecError

FAILED, WRONG_USE, REFUSED, UNVERIFIED = 1, 2, 3, 4
CHECKOUT = Path(__file__).resolve().parent.parent

# where no one looks at a terminal (a pipe, a log) tables keep a width at which they can be read
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 130)
errors = Console(stderr=True)
app = typer.Typer(
    name="stemma",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Raw text to evaluated language models as one graph, with the documents behind every weight.",
    epilog="Begin with: stemma run · stemma ui · stemma audit step demo 120",
)
audit_app = typer.Typer(no_args_is_help=True, help="Ask which documents made which weights, and prove it.")
source_app = typer.Typer(no_args_is_help=True, help="Sources in stemma.toml: add your own text, list what there is.")
app.add_typer(audit_app, name="audit")
app.add_typer(source_app, name="source")

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="STEMMA_STORE",
        metavar="URL",
        help="Directory or URL of the store [default: .stemma in the checkout]",
    ),
]
SpecOption = Annotated[
    str,
    typer.Option(
        "--spec", envvar="STEMMA_SPEC", metavar="FILE", help="The spec [default: stemma.toml in the checkout]"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]


class WrongUseError(ValueError):
    """The command asks for something that does not exist or cannot be."""


class RefusedError(RuntimeError):
    """A check or the gate said no."""


def open_store(url: str) -> Store:
    """The store of a command.

    Raises:
        StoreError: if it is a file, or a URL that cannot be opened.
    """
    return Store(url or str(CHECKOUT / ".stemma"))


def load_spec(path: str) -> Spec:
    return Spec.load(Path(path) if path else CHECKOUT / "stemma.toml")


def show_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def table(title: str, *columns: str, rows: list[list[Any]]) -> Table:
    """A table; columns that begin with ``#`` hold numbers. Title and cells are data: nothing in them is markup."""
    made = Table(title=escape(title), title_justify="left", header_style="bold")
    for column in columns:
        number = column.startswith("#")
        made.add_column(column.lstrip("#"), justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in rows:
        made.add_row(
            *[cell if isinstance(cell, Text) else Text(cell if isinstance(cell, str) else f"{cell:,}") for cell in row]
        )
    return made


def told(error: OSError) -> str:
    """Which file, and what is wrong with it; without the number, which tells nobody anything."""
    named = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{named}: {error.strerror.lower()}" if named and error.strerror else str(error)


def main() -> None:
    """Entry point: our own errors become one clear line and an exit code."""
    import assets.verbs  # noqa: F401 - registers the verbs on the app

    try:
        app()
    except (SpecError, PartitionKeyError, WrongUseError) as error:
        _stop(error, WRONG_USE)
    except RefusedError as error:
        _stop(error, REFUSED)
    except (StoreError, ManifestError, ValueError, RuntimeError, OSError, ImportError) as error:
        if os.environ.get("STEMMA_TRACEBACK"):
            raise
        _stop(error, FAILED)


def _stop(error: Exception, code: int) -> None:
    said = told(error) if isinstance(error, OSError) else str(error)
    errors.print(f"[bold red]error:[/] {escape(said)}", highlight=False, soft_wrap=True)
    raise SystemExit(code)
