"""Downloads that go on where they stopped and are not believed before their digest is right."""

from pathlib import Path

import httpx

from annotate_server.domain.errors import DownloadFailed
from annotate_server.domain.model import WeightFile
from annotate_server.domain.ports import Control
from annotate_server.imaging.whole_file import digest_of

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


def download(url: str, partial: Path, weight: WeightFile, control: Control) -> None:
    """Fetch `url` into `partial` and verify it against the size and SHA-256 of `weight`.

    What is already in `partial` is kept and only the rest is asked for (HTTP range). A wrong digest removes the file.
    Raises DownloadFailed, with what to do, when the address cannot be reached or gives something else.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadFailed("only http and https addresses are fetched", source=url)
    try:
        _fetch(url, partial, weight, control)
    except httpx.HTTPStatusError as error:
        raise DownloadFailed(
            f"the address answered {error.response.status_code} {error.response.reason_phrase}", source=url
        ) from error
    except httpx.HTTPError as error:
        raise DownloadFailed(
            f"it could not be reached ({error or type(error).__name__})",
            source=url,
            remedy="Check the connection and run the command again: it goes on where it stopped. Without internet, "
            "bring the file and use `annotate models import NAME --from PATH`.",
        ) from error
    _verify(url, partial, weight)


def _fetch(url: str, partial: Path, weight: WeightFile, control: Control) -> None:
    have = partial.stat().st_size if partial.is_file() else 0
    if have == weight.size_bytes:
        return
    if have > weight.size_bytes:
        partial.unlink()
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        with partial.open("ab" if resumed else "wb") as stream:
            for chunk in answer.iter_bytes():
                control.check()
                stream.write(chunk)
                if stream.tell() > weight.size_bytes:
                    raise DownloadFailed("it is larger than the file that the app names", source=url)
                control.report(stream.tell() / weight.size_bytes, weight.name)


def _verify(url: str, partial: Path, weight: WeightFile) -> None:
    size = partial.stat().st_size
    if size < weight.size_bytes:
        raise DownloadFailed(
            f"it ended after {size} of {weight.size_bytes} bytes",
            source=url,
            remedy="Run the command again: it goes on where it stopped.",
        )
    if digest_of(partial) != weight.sha256:
        partial.unlink()
        raise DownloadFailed(
            f"its SHA-256 is not {weight.sha256[:12]}…: it is not the file that the app was made with",
            source=url,
            remedy="Nothing was installed. Ask the app's authors, or import the right file.",
        )
