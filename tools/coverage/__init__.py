"""How often the intervals of `repeng.metrics` hold the truth, and how often rivals do: `python -m tools.coverage`."""
