"""Speed targets, measured where somebody asks: `python -m tests.benchmarks.NAME`; no tests."""
