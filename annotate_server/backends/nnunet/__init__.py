"""Networks trained by nnU-Net v2: its results folders, its preprocessing rules, our engine."""
