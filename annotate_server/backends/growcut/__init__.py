"""Segmentation by prompts without weights: GrowCut, evidence from what the prompts enclose, and local correction."""
