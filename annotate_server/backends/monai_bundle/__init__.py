"""MONAI bundles: their network, pre- and post-processing as data, run by our engine; no code of theirs runs."""
