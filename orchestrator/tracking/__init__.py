"""Record what every job did: in the ledger, in storage, and copied to MLflow."""
