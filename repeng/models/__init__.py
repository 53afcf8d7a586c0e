"""Language models: loading, architectures, hook sites, tokens, fingerprint."""
