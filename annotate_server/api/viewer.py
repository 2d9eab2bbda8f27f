"""The viewer under `/viewer/`: the files of its build, which whoever is signed in gets, and no others."""

import gzip
import re
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from annotate_server.api.frames import takes_gzip
from annotate_server.api.pages import page
from annotate_server.api.viewer_build import HOW_TO_BUILD, ViewerBuild, ViewerFile, viewer_build
from annotate_server.api.who import Anybody
from annotate_server.domain.errors import NotFound

router = APIRouter(include_in_schema=False)
_POLICY = {
    "default-src": "'none'",
    # its codecs and surfaces are WebAssembly; there is no script in the page, and none is made from text
    "script-src": "'self' 'wasm-unsafe-eval'",
    # the decoders' workers start from a script that the viewer makes itself
    "worker-src": "'self' blob:",
    # cursors and thumbnails are made in the browser
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    # its widgets set styles on elements and put style sheets into the page
    "style-src": "'self' 'unsafe-inline'",
    # a WebAssembly module and some icons lie in the bundles as data: addresses, which are fetched
    "connect-src": "'self' data: blob:",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
CONTENT_SECURITY_POLICY = "; ".join(f"{name} {value}" for name, value in _POLICY.items())
"""The strictest policy that the stock viewer runs under."""
_MAKES_SURFACES = re.compile(r"polySeg\.bundle\.[0-9a-f]+\.js")
_SURFACES_POLICY = CONTENT_SECURITY_POLICY.replace("'wasm-unsafe-eval'", "'wasm-unsafe-eval' 'unsafe-eval'")
"""For the worker that makes surfaces, which writes functions as text. It sees no page, and its policy is its own."""
_FOR_EVER, _ASK_AGAIN, _NEVER = "private, max-age=31536000, immutable", "private, no-cache", "no-store"
_NEVER_KEPT = frozenset({"index.html", "worklist.html", "app-config.js"})


@router.get("/viewer")
async def lead_to_viewer(person: Anybody) -> Response:
    """Add the slash: addresses in the page are below it."""
    return RedirectResponse("/viewer/", 308)


@router.get("/viewer/{name:path}")
def get_viewer_file(name: str, request: Request, person: Anybody) -> Response:
    """Return a file of the viewer, or its page for an address that the viewer knows itself."""
    build = built(request)
    if build is None:
        return page("The viewer is not built", not_built(), 404)
    if f"{name}.html" in build.files:
        name = f"{name}.html"
    file = build.files.get(name or "index.html")
    if file is None:
        if "." in name.rsplit("/", 1)[-1]:
            raise NotFound("the viewer has no such file")
        name, file = "index.html", build.files["index.html"]
    return _response(name or "index.html", file, request)


def built(request: Request) -> ViewerBuild | None:
    """Return the viewer, None where it is not built; read again when it was built anew."""
    folder: Path | None = request.app.state.options.viewer
    if folder is None:
        return None
    try:
        stamp = (folder / "manifest.json").stat().st_mtime_ns
    except OSError:
        return None
    kept: tuple[int, ViewerBuild | None] = getattr(request.app.state, "viewer_build", (-1, None))
    if kept[0] != stamp:
        kept = (stamp, viewer_build(folder))
        request.app.state.viewer_build = kept
    return kept[1]


def not_built() -> str:
    """Return what to do where there is no viewer, as HTML."""
    return (
        f"<p>The server runs, but without its viewer. {HOW_TO_BUILD.replace('make viewer', '<code>make viewer</code>')}"
        ", then load this page again.</p><p>Scripts and other programs can use the server as it is.</p>"
    )


def _response(name: str, file: ViewerFile, request: Request) -> Response:
    tag = f'"{file.sha256[:32]}"'
    headers = {
        "Content-Security-Policy": _SURFACES_POLICY if _MAKES_SURFACES.fullmatch(name) else CONTENT_SECURITY_POLICY,
        "Cache-Control": _NEVER if name in _NEVER_KEPT else _FOR_EVER if file.is_immutable else _ASK_AGAIN,
        "ETag": tag,
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    content = file.path.read_bytes()
    if file.is_gzip:
        if takes_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
        else:
            content = gzip.decompress(content)
    # not media_type: Starlette would add a charset to what has one
    return Response(content, headers={**headers, "Content-Type": file.media_type})
