"""Connectionist temporal classification on arrays: the public door to `rnncore.nn.ctc`."""

from rnncore.nn.ctc import loss_and_grad

__all__ = ["loss_and_grad"]
