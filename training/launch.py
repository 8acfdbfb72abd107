"""Launch: start the trainer so that it never outlives the one who started it.

    python -m training.launch --nproc 2 --parent PID -- --job job.json

A hard-killed step or run worker leaves torchrun and its workers running; they hold the GPU and write to scratch.
So the kernel is asked to signal this process when its parent dies (prctl PR_SET_PDEATHSIG, Linux), and it becomes the
trainer itself, or torchrun for several processes, by exec: the wish survives that. Each worker asks for itself too.
One process is started without torchrun: its agent would import torch a second time (2 s, 200 MB) to watch one child.

On several machines torchrun is told of the others by STEMMA_TORCHRUN, for example
``--nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=first:29500``: the first one starts the run, the others
the command that it prints. All see the same store.

The signal comes when the *thread* that started this process ends, so start it from one that waits for it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shlex
import signal
import sys

PR_SET_PDEATHSIG = 1
TORCHRUN = "STEMMA_TORCHRUN"  # arguments of torchrun, where there are several machines
LAUNCHER = "STEMMA_LAUNCHER"  # pid that the workers must find as their parent


def die_with_parent(signum: int, parent: int | None = None) -> None:
    """Ask to be sent ``signum`` when the parent dies; end at once if it has died already.

    Args:
        signum: SIGTERM where children must be ended in turn, SIGKILL where nothing must be kept.
        parent: its pid, where known; checked after asking, because it may have died just before.
    """
    if sys.platform != "linux":
        return  # elsewhere whoever starts the trainer must also stop it
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused; training would survive its parent")
    if parent is not None and os.getppid() != parent:
        sys.exit(f"the process {parent} that started this one is gone; not training for nobody.")


def command(nproc: int, arguments: list[str], parent: int) -> list[str]:
    """What to run to train on ``nproc`` processes: of this machine, or of those that STEMMA_TORCHRUN names."""
    return [
        sys.executable, "-m", "training.launch", "--nproc", str(nproc), "--parent", str(parent), "--", *arguments
    ]  # fmt: skip


def trainer(nproc: int, arguments: list[str]) -> list[str]:
    """What the launcher becomes."""
    if nproc == 1:
        return [sys.executable, "-m", "training.run", *arguments]
    where = shlex.split(os.environ.get(TORCHRUN, "")) or ["--standalone", f"--nproc-per-node={nproc}"]
    return [sys.executable, "-m", "torch.distributed.run", *where, "-m", "training.run", *arguments]


def elsewhere(nproc: int, arguments: list[str]) -> str:
    """The command for every other machine; the empty string where there is none."""
    said = os.environ.get(TORCHRUN, "")
    if nproc == 1 or not said:
        return ""
    there = ["python", "-m", "training.launch", "--nproc", str(nproc), "--", *arguments]
    return f"{TORCHRUN}={shlex.quote(said)} {shlex.join(there)}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.launch", description=__doc__)
    parser.add_argument("--nproc", type=int, default=1, help="processes in all")
    parser.add_argument("--parent", type=int, default=None, help="pid of the process that starts this one")
    parser.add_argument("rest", nargs="+", help="arguments of training.run, after --")
    parsed = parser.parse_args(arguments)
    for name in (signal.SIGTERM, signal.SIGINT):  # a server started in the background hands down "ignored"
        signal.signal(name, signal.SIG_DFL)
    die_with_parent(signal.SIGTERM, parsed.parent)
    # one process keeps this pid and its parent; the workers of torchrun have this pid as their parent
    os.environ[LAUNCHER] = str(os.getppid() if parsed.nproc == 1 else os.getpid())
    become = trainer(parsed.nproc, parsed.rest)
    if parsed.parent is not None and (other := elsewhere(parsed.nproc, parsed.rest)):
        print(f"waiting for the other machines; there: {other}", flush=True)
    os.execv(become[0], become)  # noqa: S606 (our own command)


if __name__ == "__main__":
    main()
