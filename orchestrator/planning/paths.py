"""Make the paths of a configuration absolute."""

from __future__ import annotations

from typing import Any

from orchestrator.config.models import ModelConfig
from orchestrator.config.sections import MODEL, Config
from orchestrator.config.stages import ImagesConfig, VideosConfig
from vosmodels import demo
from vosmodels.data import split_file
from vosmodels.support import paths


def located(config: Config) -> Config:
    """Return the configuration with absolute paths, and with models:/ID and `demo` unchanged.

    Workers, and later commands that read the configuration, have other working directories; each
    has the student that ships where its own package lies.
    """
    models = {
        section: _placed_model(getattr(config, section)) for section in ("student", "teacher")
    }
    data = config.data
    root = data.root if data.generated else _absolute(data.root)
    select_root = None if data.select_root is None else data.of_select.root
    if select_root is not None and not data.of_select.generated:
        select_root = _absolute(select_root)
    here = {
        "root": root,
        "select_root": select_root,
        "static": _placed(data.static),
        **{key: _placed(getattr(data, key)) for key in ("train", "select", "report")},
    }
    stages = config.stages and tuple(
        stage.model_copy(update={"data": _placed(stage.data)}) for stage in config.stages
    )
    return config.model_copy(
        update={**models, "stages": stages, "data": data.model_copy(update=here)}
    )


def _placed_model(model: ModelConfig) -> ModelConfig:
    keys = [key for key in ("weights", "backbone", "masks") if hasattr(model, key)]
    places = {key: _absolute(getattr(model, key)) for key in keys}
    if model.weights == demo.DEMO:
        places["weights"] = demo.DEMO
    return model.model_copy(update=places)


def _placed(sources: Any) -> Any:
    """Make the paths of a list of folders, or of a split's file, absolute; leave names and null."""
    if isinstance(sources, str):
        return _absolute(sources) if split_file.is_file(sources) else sources
    return sources and tuple(_placed_source(source) for source in sources)


def _placed_source(source: ImagesConfig) -> ImagesConfig:
    places = {"root": _absolute(source.root)}
    if isinstance(source, VideosConfig) and split_file.is_file(source.split):
        places["split"] = _absolute(source.split)
    return source.model_copy(update=places)


def _absolute(path: str | None) -> str | None:
    if path is None or path == "imagenet" or path.startswith(MODEL):
        return path
    return str(paths.absolute(path))
