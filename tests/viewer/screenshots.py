"""Make the picture of the README, a draft that is corrected: `python tests/viewer/screenshots.py docs/pictures`.

A server of its own serves the sample volumes, and a browser does what a person does.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))

from server_process import running
from viewer_stand import CHROMIUM, NODE, Browser, Stand

from annotate_server.testing.phantoms import make_sample_data

PROJECT = "demo_ct"
WIDTH, HEIGHT = 1280, 800
NAME = "correcting.webp"


def main() -> None:
    """Make the picture and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as temporary:
        seen = played(Path(temporary))
        target = folder / NAME
        animate(seen["frames"], target)
    logging.getLogger(__name__).info("%s: %d frames, %d kB", target, len(seen["frames"]), target.stat().st_size // 1000)


def played(folder: Path) -> Any:
    """Play the correction on the torso of the sample data and return the frames."""
    if CHROMIUM is None or NODE is None:
        raise SystemExit("chromium and node are needed: make screenshots installs them")
    make_sample_data(folder / "samples")
    browser = Browser(NODE, CHROMIUM)
    with running(folder / "workspace", folder / "samples/images") as server:
        server.wait_until_ready().wait_for_cases(3)
        stand = Stand(server, browser, folder)
        case = stand.case("ct_torso")
        with server.client() as client:
            client.declare_modality(case["id"], "CT")
        try:
            return stand.play(
                "screenshots",
                address=stand.address(stand.case("ct_torso"), PROJECT),
                window={"colorScheme": "dark"},
            )
        finally:
            browser.close()


def animate(frames: Any, target: Path) -> None:
    """Write the frames as one animated picture."""
    pictures = [
        Image.open(frame["file"]).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS) for frame in frames
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(
        target,
        save_all=True,
        append_images=pictures[1:],
        duration=[frame["ms"] for frame in frames],
        loop=0,
        quality=72,
        method=4,
    )


if __name__ == "__main__":
    main()
