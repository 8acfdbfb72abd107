"""From checkpoints to scores: suites and their prompts, lm-eval, per-item records, comparison, and the gate."""
