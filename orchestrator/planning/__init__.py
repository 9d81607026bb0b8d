"""Decide which jobs a configuration needs, on which data, and where they fit."""
