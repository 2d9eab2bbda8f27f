"""Networks of plain PyTorch: architectures by name, prediction on one canonical array, and the training loop."""
