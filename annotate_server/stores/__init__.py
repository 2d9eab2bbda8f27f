"""Adapters that keep things: folders of studies, apps, the model registry, blobs."""
