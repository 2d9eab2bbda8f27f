"""Write the sample data of the demonstration: `python sample_data/make_sample_data.py [FOLDER]`.

Without FOLDER they go to `generated` beside this file. The generator is part of the package, so that an installation
from a wheel has it too: `annotate_server.testing.phantoms`.
"""

import argparse
import logging
from pathlib import Path

from annotate_server.testing.phantoms import make_sample_data


def main() -> None:
    """Write the phantoms and say where they are."""
    parser = argparse.ArgumentParser(description="Write deterministic CT and MR phantoms with their truth.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "generated")
    folder: Path = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    manifest = make_sample_data(folder)
    logging.getLogger(__name__).info("%d files in %s; see manifest.json", len(manifest.files), folder)


if __name__ == "__main__":
    main()
