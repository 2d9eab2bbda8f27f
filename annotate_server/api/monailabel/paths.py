"""The addresses of DICOMweb that MONAI Label's viewer was built with, as other names of ours."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

_PREFIX, _OURS = "/proxy/dicom/", "/dicomweb/"
_SERVICES = ("wado/", "qido/", "stow/")


@dataclass
class StockPaths:
    """The ASGI middleware before the doorkeeper, which then sees the only name that there is; the query stays."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on under our own name for what it asks."""
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX):
            path = our_path(scope["path"])
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self.app(scope, receive, send)


def our_path(path: str) -> str:
    """Return our path of one below `/proxy/dicom/`, with or without the name of a service."""
    rest = path.removeprefix(_PREFIX)
    service = next((each for each in _SERVICES if rest.startswith(each)), "")
    return _OURS + rest.removeprefix(service)
