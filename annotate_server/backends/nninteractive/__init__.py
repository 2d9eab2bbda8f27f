"""nnInteractive: prompts about any structure, answered by its own package in an environment of its own."""
