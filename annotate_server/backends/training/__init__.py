"""The one training loop of all backends whose networks learn: cases, augmentation, loss, steps, checkpoints."""
