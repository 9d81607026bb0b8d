"""Segment objects in video: models, losses, data and evaluation.

This package imports torch, never Ray or MLflow.
"""
