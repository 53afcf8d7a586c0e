"""Work on a Ray cluster: which machines there are, who holds a model, and what they compute."""
