"""The folder of a training round: what is done already, so that a killed round goes on where it was."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from annotate_server.domain.errors import StateError, StorageFailed
from annotate_server.domain.training import Checkpoint, TrainingPoint
from annotate_server.imaging.segment_json import segment_as_json, segment_of_json
from annotate_server.imaging.whole_file import digest_of, whole_file


@dataclass(frozen=True)
class RoundFolder:
    """Checkpoints that a round has finished, by name. Files are named only once they are whole."""

    folder: Path

    def begin(self, key: str) -> None:
        """Take the folder for the round of this key; StateError where another round has begun in it."""
        path = self.folder / "round.json"
        if path.is_file() and json.loads(path.read_bytes()) != {"round": key}:
            raise StateError("another training has begun in this folder", remedy="Give every training its own.")
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps({"round": key}))

    def place(self, name: str) -> Path:
        """Return the folder of one part of the round; it is made."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def finished(self, name: str) -> Checkpoint | None:
        """Return a checkpoint that was finished before; None where it is not there or its files have changed."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            return None
        try:
            table = json.loads(path.read_bytes())
            checkpoint = Checkpoint(
                files={name: self.folder / row["path"] for name, row in table["files"].items()},
                parameters=table["parameters"],
                segments=tuple(segment_of_json(segment) for segment in table["segments"]),
                steps=int(table["steps"]),
                voxels=int(table["voxels"]),
                seconds=float(table["seconds"]),
                notes=tuple(table["notes"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise StorageFailed(f"the state of a training cannot be read ({error})", source=path.name) from error
        intact = all(digest_of(self.folder / row["path"]) == row["sha256"] for row in table["files"].values())
        return checkpoint if intact else None

    def finish(self, name: str, checkpoint: Checkpoint) -> Checkpoint:
        """Remember a finished checkpoint, whose files lie below the folder, and return it."""
        table = {
            "files": {
                name: {"path": str(path.relative_to(self.folder)), "sha256": digest_of(path)}
                for name, path in checkpoint.files.items()
            },
            "parameters": checkpoint.parameters,
            "segments": [segment_as_json(segment) for segment in checkpoint.segments],
            "steps": checkpoint.steps,
            "voxels": checkpoint.voxels,
            "seconds": checkpoint.seconds,
            "notes": checkpoint.notes,
        }
        with whole_file(self.folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(table))
        return checkpoint

    def keep_curve(self, points: Sequence[TrainingPoint]) -> None:
        """Remember the points of a training's curve."""
        with whole_file(self.folder / "curve.json") as temporary:
            temporary.write_text(json.dumps([asdict(point) for point in points]))

    def curve(self) -> tuple[TrainingPoint, ...]:
        """Return the points that were remembered."""
        path = self.folder / "curve.json"
        return tuple(TrainingPoint(**row) for row in json.loads(path.read_bytes())) if path.is_file() else ()
