"""The graph's definitions import the stage modules of evaluation; nothing heavy may come with them."""

import subprocess
import sys

STAGES = (
    "suites",
    "harness",
    "scores",
    "compare",
    "gate",
    "card",
    "bundle",
    "metrics",
    "records",
    "statistics",
    "benchmarks",
)
HEAVY = ("torch", "transformers", "lm_eval", "datasets", "sklearn", "scipy", "rouge_score", "polars", "numba", "tokenizers",
         "yaml", "dagster")  # fmt: skip


def test_stage_modules_import_light():
    imports = "; ".join(f"import evals.{name}" for name in STAGES)
    code = f"{imports}; import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
