"""One pass over a model, and the store that keeps what its layers said."""
