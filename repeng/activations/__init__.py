"""One pass over a model, and the store that keeps its activations."""
