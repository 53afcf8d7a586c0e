"""Fuzzing of everything that repeng reads: `python -m tools.fuzz --work DIR [--seconds 60] [LOADER ...]`."""
