"""Optimizers, learning-rate schedules, and the curvature that one of them divides by."""
