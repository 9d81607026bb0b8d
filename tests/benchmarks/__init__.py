"""Measure speed targets on request: `python -m tests.benchmarks.NAME`; no tests."""
