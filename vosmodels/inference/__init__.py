"""Run a model on a video, frame by frame."""

from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter

__all__ = ["VideoSegmenter", "for_inference"]
