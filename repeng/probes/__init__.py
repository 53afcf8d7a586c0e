"""Probes: estimators fitted on cached activations. Tensors only."""
