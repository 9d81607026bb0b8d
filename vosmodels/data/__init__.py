"""Clips and sequences: DAVIS folders and clips drawn on the fly."""
