"""The code that runs models; the only place that may import a deep-learning library."""
