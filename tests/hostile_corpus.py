"""The archive of crafted bad files, unpacked as carefully as it deserves."""

import tarfile
from pathlib import Path, PurePosixPath

MOST_BYTES = 64 << 20


def unpacked(archive_path: Path, folder: Path) -> Path:
    """Return the corpus: plain files below the folder only, and not too much of them."""
    left = MOST_BYTES
    with tarfile.open(archive_path) as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            assert ".." not in parts
            assert not PurePosixPath(member.name).is_absolute()
            assert member.isfile() or member.isdir()
            left -= member.size
            assert left >= 0
            content = archive.extractfile(member)
            if content is not None:
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read(member.size))
    return folder / "12_hostile"
