"""The drafts of open sessions as files that several processes map: a cache, made again from the event log."""

import errno
import math
import os
from pathlib import Path
from typing import cast

import numpy as np

from annotate_server.domain.errors import NoSpace, StorageFailed
from annotate_server.domain.geometry import Shape
from annotate_server.domain.labelmap import LabelVoxels


class DraftFiles:
    """Fulfils `store_ports.DraftFiles` below one folder, which is emptied when the server starts."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`; what an earlier run left there is removed."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.raw"):
            left.unlink(missing_ok=True)

    def path(self, session_id: str) -> Path:
        """Return where a session's draft lies."""
        return self._folder / f"{session_id}.raw"

    def make(self, session_id: str, shape: Shape, dtype: str) -> LabelVoxels:
        """Return an empty draft, mapped for writing; its space is taken from the disk at once.

        Otherwise a full disk would show only when a page is written back, as a signal that ends the process.
        """
        kind = np.dtype(dtype)
        path = self.path(session_id)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, math.prod(shape) * kind.itemsize)
        except OSError as error:
            path.unlink(missing_ok=True)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise (NoSpace if full else StorageFailed)(
                f"there is no room for the draft ({error.strerror})", remedy="Free space in the workspace."
            ) from error
        finally:
            os.close(descriptor)
        return cast("LabelVoxels", np.memmap(path, kind, "r+", shape=shape))

    def remove(self, session_id: str) -> None:
        """Remove a draft; who has it mapped keeps what is mapped."""
        self.path(session_id).unlink(missing_ok=True)
