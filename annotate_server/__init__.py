"""annotate-server: AI-assisted annotation of CT and MRI."""

__version__ = "0.1.0"
