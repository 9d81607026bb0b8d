"""Record what was done: the ledger, storage paths, and MLflow as a view of them."""
