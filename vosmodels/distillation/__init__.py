"""Compute distillation losses on features and logits, and select their pixels."""

from vosmodels.distillation.correlation import correlation_loss
from vosmodels.distillation.logits import logit_loss

__all__ = ["correlation_loss", "logit_loss"]
