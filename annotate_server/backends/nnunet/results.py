"""Results folders of nnU-Net v2: `Dataset…/TRAINER__PLANS__CONFIGURATION/` with plans, dataset and folds."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from annotate_server.domain.errors import InvalidApp

PLANS, DATASET, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"
_OF_ANOTHER = ("inference_info.json", "inference_session_class.json")
"""What a release of nnInteractive has beside the rest: its network wants prompts as further channels."""
_MOST_FOLDERS = 1000


@dataclass(frozen=True)
class Results:
    """One trained configuration on disk; `folds` are the checkpoints by the name of their fold."""

    folder: Path
    folds: tuple[tuple[str, Path], ...]


def folders_in(source: Path) -> tuple[Path, ...]:
    """Return the trained configurations that a folder is or holds; names only are looked at."""
    if _is_results(source):
        return (source,)
    if not source.is_dir():
        return ()
    return tuple(sorted(folder for folder in _first(source) if _is_results(folder)))


def results_of(source: Path) -> Results:
    """Return the one trained configuration of a folder; InvalidApp names those to choose from."""
    folders = folders_in(source)
    if not folders:
        raise InvalidApp(f"there is no {PLANS}, {DATASET} and fold in it", source=source.name)
    if len(folders) > 1:
        raise InvalidApp(
            f"it holds {len(folders)} trained configurations: {', '.join(folder.name for folder in folders)}",
            source=source.name,
            remedy="Name the folder of one of them.",
        )
    return Results(folders[0], _folds(folders[0]))


def _folds(folder: Path) -> tuple[tuple[str, Path], ...]:
    """Return the folds that nnU-Net would use: every one that is numbered, else the one over all cases."""
    found = {path.parent.name: path for path in sorted(folder.glob(f"fold_*/{CHECKPOINT}"))}
    numbered = sorted((int(name[5:]), name) for name in found if name[5:].isdecimal())
    names = [name for _, name in numbered] or [name for name in found if name == "fold_all"]
    if not names:
        raise InvalidApp(
            f"none of its folds has a {CHECKPOINT}",
            source=folder.name,
            remedy="Let the training come to its end; nnU-Net writes that file then.",
        )
    return tuple((name, found[name]) for name in names)


def _is_results(folder: Path) -> bool:
    return (
        (folder / PLANS).is_file()
        and (folder / DATASET).is_file()
        and any(entry.name.startswith("fold_") and entry.is_dir() for entry in _first(folder))
        and not any((folder / name).is_file() for name in _OF_ANOTHER)
    )


def _first(folder: Path) -> list[Path]:
    """Return what lies in a folder, as far as one looks; nothing of one that must not be read."""
    try:
        return list(islice(folder.iterdir(), _MOST_FOLDERS))
    except OSError:
        return []
