"""The verbs: what the product does, over ports."""
