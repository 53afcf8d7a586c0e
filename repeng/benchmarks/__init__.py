"""Benchmarks: shift lists, the data that they name, fetching it, and the embedded benchmark."""
