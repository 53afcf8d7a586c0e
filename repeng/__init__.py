"""repeng: run a language model once, cache what its layers said, and ask how probes generalise."""

__version__ = "0.1.0"
