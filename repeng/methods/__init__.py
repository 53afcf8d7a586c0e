"""Methods: fitted on a source, asked about a target. One file a family."""
