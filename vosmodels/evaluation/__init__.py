"""Run a model over videos and score the masks with the DAVIS protocol's J and F."""
