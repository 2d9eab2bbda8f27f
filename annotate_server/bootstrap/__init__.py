"""Composition root: from settings to the adapters behind the ports. The only place that knows who implements what."""

from annotate_server.bootstrap.ports import Ports, shipped_apps, wire

__all__ = ["Ports", "shipped_apps", "wire"]
