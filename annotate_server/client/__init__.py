"""The HTTP client, for scripts and for `annotate batch --server`."""
