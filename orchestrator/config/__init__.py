"""Read a YAML file into a typed, frozen configuration, or report everything wrong with it."""

from orchestrator.config.document import ConfigError
from orchestrator.config.sections import RunConfig, SweepConfig, load, load_run

__all__ = ["ConfigError", "RunConfig", "SweepConfig", "load", "load_run"]
