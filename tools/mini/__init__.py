"""Making the embedded model, and the tables of docs/mini.md. Run from the root of a checkout; not installed."""
