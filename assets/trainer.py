"""The trainer as a child of a Dagster step: through Pipes, and dead when the step or its worker dies."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

import dagster as dg

from assets.live_curves import live_curves

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 60.0  # torchrun gives its workers 30 s; Pipes' own 20 s would leave them behind


def pipes_launcher(context: dg.AssetExecutionContext) -> Callable[[Sequence[str], Mapping[str, str]], None]:
    """A function that runs a command under Dagster Pipes, its output and its curves live in the UI."""

    def launch(command: Sequence[str], env: Mapping[str, str]) -> None:
        die_with_parent()
        client = dg.PipesSubprocessClient(termination_timeout_seconds=GRACE_SECONDS)
        with live_curves(context, command):
            client.run(context=context.op_execution_context, command=list(command), env={**os.environ, **env})

    return launch


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the run worker above this step is killed (Linux; elsewhere nothing).

    Only in a step's own process: in process, our parent is the person's shell, and a closed terminal is no reason
    to stop.
    """
    if not sys.platform.startswith("linux") or os.environ.get("STEMMA_IN_PROCESS"):
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:  # inherited from whoever started the server: see launch.py
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
