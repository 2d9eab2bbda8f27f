"""The few pages that the server writes itself: plain, without scripts."""

from starlette.responses import HTMLResponse, Response

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · annotate-server</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 15vh auto 0; padding: 0 1rem }}
input, button {{ font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin-top: .5rem }}
[role=alert] {{ color: #b00020 }}</style></head>
<body><main><h1>{title}</h1>{body}</main></body></html>"""
_CSP = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


def page(title: str, body: str, status: int = 200) -> Response:
    """Return a page; title and body are HTML already."""
    return HTMLResponse(_PAGE.format(title=title, body=body), status, {"Content-Security-Policy": _CSP})
