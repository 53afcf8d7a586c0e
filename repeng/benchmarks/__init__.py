"""Benchmarks, the seam every method comes through, and the study runner."""
