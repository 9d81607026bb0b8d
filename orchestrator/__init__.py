"""Running experiments: configuration, training loop, sweeps, tracking, commands."""
