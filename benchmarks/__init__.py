"""One script per claim: `python -m benchmarks.NAME [--quick]`. See report.py for the convention."""
