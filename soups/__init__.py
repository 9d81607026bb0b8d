"""Averaging checkpoints of different runs, guided by held-out scores."""
