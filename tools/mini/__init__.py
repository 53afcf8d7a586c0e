"""Makes the embedded model and the tables of docs/mini.md."""
