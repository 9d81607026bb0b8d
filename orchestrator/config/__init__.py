"""Read and validate the YAML files that describe sweeps and single jobs."""

from orchestrator.config.document import ConfigError
from orchestrator.config.loading import load, load_run
from orchestrator.config.sections import RunConfig, SweepConfig

__all__ = ["ConfigError", "RunConfig", "SweepConfig", "load", "load_run"]
