"""What runs in nnInteractive's own environment: one session of its package, fed with our prompts.

An answer depends on the volume, on the segment as it is, and on the prompts about it, and on nothing else: the session
is brought to "this segment, these earlier prompts", then it is given the newest prompt and predicts. Where the session
is there already, because it gave the answer that the person went on from, that is not done again.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nnInteractive.inference.inference_session import nnInteractiveInferenceSession
from numpy.typing import NDArray

from annotate_server.backends.environments.messages import Arrays, Json, Report, Words
from annotate_server.backends.nninteractive.parameters import CHECKPOINT
from annotate_server.domain.errors import WeightsInvalid

Session = Any
"""`nnInteractiveInferenceSession`, or what has its methods."""
Bounds = list[list[int]]


class SessionDesk:
    """Fulfils `messages.Desk` over one session."""

    def __init__(self, session: Session) -> None:
        """Begin without a volume."""
        self._session = session
        self._volume = ""
        self._placed: list[Words] | None = None
        self._segment: NDArray[np.uint8] = np.zeros((0, 0, 0), np.uint8)

    def answer(self, verb: str, words: Words, arrays: Arrays, report: Report) -> tuple[Words, Arrays]:
        """Answer the newest of `interactions` about a volume and a segment (`prompt`; there is no other verb).

        `volume` (k, j, i) need not come along where its digest is that of the last call: the answer says `needs` then.
        `segment` fills `bounds`. Returned is where the segment is now, in the box in which it changed.
        """
        interactions = cast("Sequence[Words]", words["interactions"])
        if words["digest"] != self._volume:
            if "volume" not in arrays:
                return {"needs": "volume"}, {}
            report(0.0, "Preparing the volume")
            self._open(str(words["digest"]), arrays["volume"])
        present = np.zeros_like(self._segment)
        present[_slices(cast("Bounds", words["bounds"]))] = arrays["segment"]
        earlier, newest = list(interactions[:-1]), interactions[-1]
        pictures = _pictures(interactions, arrays["pictures"])
        if self._placed != earlier or not np.array_equal(self._segment, present):
            report(0.2, "Placing the earlier prompts")
            self._restore(present, earlier, pictures)
        report(0.4, "Predicting")
        self._placed = None  # what is half done is not gone on from
        self._place(newest, pictures[-1], predict=True)
        self._placed = list(interactions)
        return _change(present, self._segment)

    def _open(self, digest: str, volume: NDArray[np.generic]) -> None:
        """Let the session look at a volume."""
        self._volume, self._placed = "", None
        self._session.set_image(np.nan_to_num(volume.astype(np.float32))[None])
        self._segment = np.zeros(volume.shape, np.uint8)
        self._session.set_target_buffer(self._segment)
        self._volume, self._placed = digest, []

    def _restore(
        self, present: NDArray[np.uint8], earlier: Sequence[Words], pictures: Sequence[NDArray[np.uint8]]
    ) -> None:
        """Bring the session to a segment and the prompts that were given about it, without predicting."""
        self._placed = None
        self._session.reset_interactions()
        if present.any():
            self._session.add_initial_seg_interaction(present, run_prediction=False, override_capability_checks=True)
        for interaction, picture in zip(earlier, pictures, strict=False):
            self._place(interaction, picture, predict=False)

    def _place(self, interaction: Words, picture: NDArray[np.uint8], *, predict: bool) -> None:
        bounds, positive = cast("Bounds", interaction["bounds"]), bool(interaction["positive"])
        session = self._session
        match interaction["kind"]:
            case "point":
                session.add_point_interaction(tuple(a for a, _ in bounds), positive, run_prediction=predict)
            case "box":
                session.add_bbox_interaction(bounds, positive, run_prediction=predict)
            case "scribble":
                session.add_scribble_interaction(picture, positive, run_prediction=predict, interaction_bbox=bounds)
            case _:
                session.add_lasso_interaction(picture, positive, run_prediction=predict, interaction_bbox=bounds)


def open(words: Words) -> SessionDesk:
    """Return a desk over the network of `files` (paths by their names); WeightsInvalid where they are no network."""
    files = cast("Mapping[str, str]", words["files"])
    session = nnInteractiveInferenceSession(
        device=torch.device(str(words["device"])),
        torch_n_threads=int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files.items():
            place = Path(folder) / ("fold_0/checkpoint_final.pth" if name == CHECKPOINT else name)
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(path)
        try:
            session.initialize_from_trained_model_folder(folder)
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, AssertionError, OSError) as error:
            raise WeightsInvalid(f"nnInteractive does not take them ({type(error).__name__}: {error})") from error
    return SessionDesk(session)


def _pictures(interactions: Sequence[Words], joined: NDArray[np.generic]) -> list[NDArray[np.uint8]]:
    """Return the picture of each interaction out of the row that they crossed in; an empty one for what needs none."""
    pictures, at = [], 0
    for interaction in interactions:
        if interaction["kind"] not in ("scribble", "lasso"):
            pictures.append(np.zeros((0, 0, 0), np.uint8))
            continue
        shape = tuple(b - a for a, b in cast("Bounds", interaction["bounds"]))
        size = int(np.prod(shape))
        pictures.append(np.array(joined[at : at + size], np.uint8).reshape(shape))
        at += size
    return pictures


def _change(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> tuple[dict[str, Json], dict[str, NDArray[np.uint8]]]:
    """Return the box in which a segment changed and the segment in it."""
    changed = before != (now > 0)
    bounds: list[Json] = []
    for axis in range(3):
        hits = np.flatnonzero(changed.any(axis=tuple(other for other in range(3) if other != axis)))
        if not hits.size:
            return {"bounds": [[0, 0]] * 3}, {"segment": np.zeros((0, 0, 0), np.uint8)}
        bounds.append([int(hits[0]), int(hits[-1]) + 1])
    return {"bounds": bounds}, {"segment": now[_slices(cast("Bounds", bounds))]}


def _slices(bounds: Bounds) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in bounds)
