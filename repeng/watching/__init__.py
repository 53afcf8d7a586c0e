"""A fitted probe at every token that a model reads: of a text, or while it is written."""
