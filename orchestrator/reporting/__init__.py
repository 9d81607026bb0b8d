"""Turn ledger and scores into tables, figures and Markdown."""
