"""Video object segmentation: models, losses, data, evaluation. Knows torch; never Ray or MLflow."""
