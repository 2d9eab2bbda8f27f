"""Methods without weights: thresholds, shapes and anatomy."""
