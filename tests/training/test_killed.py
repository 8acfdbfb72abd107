"""A trainer that is killed at random steps, with a real SIGKILL, ends with the bytes of one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import finished, in_process, small_job

from training.job import Job
from training.trainer import environment

KILLS = 50 if os.environ.get("STEMMA_DEEP") == "1" else 5
STEPS = 40 * KILLS  # of about a hundredth of a second each
LATEST = 0.02  # seconds after the record of a step: within the next one, or while its checkpoint is written


def last_step(metrics: Path) -> int:
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def killed_at(job: Job, step: int, delay: float) -> bool:
    """Start the trainer and kill it so many seconds after that step; False if it came to its end before."""
    command = [sys.executable, "-m", "training.run", "--job", str(job.directory / "job.json")]
    with subprocess.Popen(command, env=os.environ | environment(job), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and last_step(job.directory / "metrics.jsonl") < step:
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [{"dropout": 0.2, "microbatch": 3, "optimizer": "muon"}, {"objective": "masked", "kv_heads": 2, "dropout": 0.1}],
    ids=["causal", "masked"],
)
def test_killed_at_random_steps_it_ends_with_the_bytes_of_the_uninterrupted(world, tmp_path, fields):
    """Dozens of epochs of the small world; checkpoints every third step, so that kills hit what is being written."""
    whole = in_process(small_job(world, tmp_path / "whole", steps=STEPS, checkpoint_every=3, **fields))
    job = small_job(world, tmp_path / "killed", steps=STEPS, checkpoint_every=3, **fields)
    job.write()
    draw, kills = random.Random(7), 0
    for step in sorted(draw.sample(range(1, STEPS - 20), KILLS)):
        kills += killed_at(job, step, draw.uniform(0, LATEST))
    assert kills >= KILLS * 4 // 5, "most of them must hit a run that is under way"
    resumed = in_process(job)
    assert resumed.state["files"] == whole.state["files"]
    assert finished(job).state == whole.state
