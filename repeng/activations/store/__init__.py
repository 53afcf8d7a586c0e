"""Activations on disk: what is there, what is missing, reading and writing."""
