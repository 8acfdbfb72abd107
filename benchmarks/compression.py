"""Smaller models: what quantising, pruning and a teacher cost or gain on the demo's held-out documents.

There is no peer: numbers and scales equal torchao's, which tests/training/test_quantisation.py compares. The student has a quarter of the demo's parameters and is trained with the demo as its teacher and without, on the same data: an eighth of what its teacher has read.
``--quick`` trains a tenth of the steps. ``--store`` goes on in a store where some of it is done.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import report, versions
from pipelines.provenance.store import Store

CHECKOUT = Path(__file__).resolve().parent.parent
METHODS = {
    "int8": "",
    "int4": "",
    "int8_dynamic": "",
    "prune-50": "sparsity = 0.5",
    "prune-80": "sparsity = 0.8",
    "prune-80-recovered": "sparsity = 0.8\nrecovery_steps = STEPS",
}
STUDENT = """
[runs.NAME]
corpus = "small"
[runs.NAME.mixture]
sequence_length = 128
batch_size = 8
steps = 300
[runs.NAME.training]
warmup_steps = 20
layers = 2
width = 64
heads = 2
kv_heads = 1
mlp_width = 192
"""


def tables(steps: int) -> str:
    """What is added to the shipped spec."""
    found = ""
    for name, fields in METHODS.items():
        method = name.partition("-")[0]
        found += (
            f'\n[compressions.demo-{name}]\nbase = "demo"\nmethod = "{method}"\n[compressions.demo-{name}.recipe]\n'
        )
        found += fields.replace("STEPS", str(steps // 6)) + "\n"
    alone, taught = STUDENT.replace("NAME", "small-alone"), STUDENT.replace("NAME", "small-taught")
    return found + alone + taught + 'teacher = "demo"\n'


def built(spec: Path, store: Path, run: str, asset: str) -> None:
    environment = {**os.environ, "STEMMA_STORE": str(store), "STEMMA_SPEC": str(spec)}
    command = [sys.executable, "-m", "assets", "run", run, "--select", asset]
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="64 steps instead of 640")
    parser.add_argument("--store", type=Path, help="a store to go on in [default: a new one]")
    options = parser.parse_args()
    steps = 64 if options.quick else 640
    with tempfile.TemporaryDirectory() as folder:
        spec, store = Path(folder) / "stemma.toml", options.store or Path(folder) / "store"
        shipped = (CHECKOUT / "stemma.toml").read_text(encoding="utf-8").replace("steps = 640", f"steps = {steps}")
        spec.write_text(shipped + tables(steps), encoding="utf-8")
        built(spec, store, "demo", "compressed_model")
        for name in ("small-alone", "small-taught"):
            built(spec, store, name, "pretrained_model")
        show(Store(store))


def show(store: Store) -> None:
    """What a store with all of it says."""
    found = {name: store.open("compressed_model", f"demo-{name}").facts for name in METHODS}
    runs = {name: store.open("pretrained_model", name).facts for name in ("demo", "small-alone", "small-taught")}
    rows = [["demo, fp32", f"{next(iter(found.values()))['base_bytes']:,}", "1.000",
             f"{next(iter(found.values()))['base_heldout_bpb']:.4f}", "", ""]]  # fmt: skip
    rows += [
        [name, f"{facts['bytes']:,}", f"{facts['bytes_ratio']:.3f}", f"{facts['heldout_bpb']:.4f}",
         f"{facts['logits_error']:.4f}", f"{facts['same_top_token']:.1%}"]
        for name, facts in found.items()
    ]  # fmt: skip
    rows += [
        [
            f"{name}, {facts['parameters']:,} parameters, {facts['tokens']:,} tokens",
            "",
            "",
            f"{facts['heldout_bpb']:.4f}",
            "",
            "",
        ]
        for name, facts in runs.items()
    ]
    report(
        "compression",
        rows,
        ("model", "bytes", "of fp32", "bits per byte", "logits off by", "same likeliest token"),
        ratios={},
        compressions={
            name: {key: facts[key] for key in ("bytes_ratio", "heldout_bpb", "base_heldout_bpb", "logits_error")}
            for name, facts in found.items()
        },
        heldout_bpb={name: facts["heldout_bpb"] for name, facts in runs.items()},
        versions=versions("torch"),
    )


if __name__ == "__main__":
    main()
