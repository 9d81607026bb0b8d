"""Scores: J and F of the DAVIS protocol, and a model run over sequences."""
