"""Acting on a running model along what a probe found: directions added, projected out, erased."""
