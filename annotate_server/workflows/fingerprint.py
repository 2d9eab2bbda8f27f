"""What the file system says of a volume's files, as one word: another one means that they changed."""

import hashlib

from annotate_server.domain.case import StoredVolume


def fingerprint_of(stored: StoredVolume) -> str:
    """Return a digest over what the file system says of the input files; another one means: draft it again."""
    state = hashlib.sha256()
    for path in stored.files:
        try:
            facts = path.stat()
            state.update(f"{path.name}|{facts.st_size}|{facts.st_mtime_ns}\n".encode())
        except OSError:
            state.update(f"{path.name}|gone\n".encode())
    return state.hexdigest()
