"""Compute distillation losses on features, attentions and logits, and select their pixels."""

from vosmodels.distillation.attention_cka import linear_cka
from vosmodels.distillation.correlation import correlation_loss
from vosmodels.distillation.logits import logit_loss
from vosmodels.distillation.relations import relation_losses

__all__ = ["correlation_loss", "linear_cka", "logit_loss", "relation_losses"]
