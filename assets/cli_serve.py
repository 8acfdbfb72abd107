"""stemma serve: a checkpoint behind the completion API that OpenAI's clients speak."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.markup import escape

from assets.cli import SpecOption, StoreOption, WrongUseError, app, console
from assets.cli_generate import MODEL_HELP, device, source_of


@app.command()
def serve(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help=MODEL_HELP)] = "",
    host: Annotated[
        str, typer.Option(help="Any but this machine's own needs a token in STEMMA_SERVE_TOKEN")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    name: Annotated[str, typer.Option(help="What clients call the model [default: its name here]")] = "",
    max_rows: Annotated[int, typer.Option(min=1, help="Texts that are written at a time, in one batch")] = 16,
    max_waiting: Annotated[int, typer.Option(min=0, help="Texts that may wait; beyond, clients hear 429")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one text")] = 4096,
    max_prompts: Annotated[int, typer.Option(min=1, help="Most texts of one request")] = 32,
    store: StoreOption = "",
    spec: SpecOption = "",
) -> None:
    """Answer /v1/completions (and /v1/chat/completions where there is a chat template) until Ctrl-C or SIGTERM.

    For quick use on one machine: requests that come together are written in one batch. /v1/models names the artifact,
    /metrics is for Prometheus, /health for whoever watches. docs/serving.md has examples, and the way to vLLM.
    """
    from training.serving.app import Limits
    from training.serving.server import TOKEN, check_host
    from training.serving.server import serve as answer

    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise WrongUseError(
            f"{error.name} is not installed: pip install -e '.[serve]' brings what serving needs."
        ) from None
    from training.serving.served import Served

    try:
        check_host(host, os.environ.get(TOKEN, ""))  # before the seconds that loading takes
    except ValueError as error:
        raise WrongUseError(str(error)) from None
    served = Served.load(source_of(model, store, spec), name, device())

    def ready(address: str) -> None:
        console.print(
            f"{escape(served.name)} ({served.fingerprint}) answers at {address}/v1", highlight=False, soft_wrap=True
        )

    limits = Limits(max_tokens=max_tokens, max_prompts=max_prompts)
    answer(served, host, port, limits=limits, max_rows=max_rows, max_waiting=max_waiting, ready=ready)
