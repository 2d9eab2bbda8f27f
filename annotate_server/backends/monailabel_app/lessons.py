"""Training by an app's own TrainTask; runs over there.

What MONAI Label does around a training is left out: it is not published over what serves; nothing is split off for a
validation, since our gate validates, on patients that nobody trains on; and the weights of the last step are taken
rather than those with the best figure on the training set.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from annotate_server.backends.environments.messages import Report, Words
from annotate_server.backends.monailabel_app.surroundings import foreign
from annotate_server.domain.errors import PredictionFailed

_RUN = "hosted"


@dataclass
class _Points:
    """Writes a line for each step of a training, and lets it stop; attached to MONAI's trainer as its handlers are."""

    file: Path
    steps: int
    report: Report
    began_s: float = 0.0

    def attach(self, engine: Any) -> None:
        """Listen to a trainer."""
        from ignite.engine import Events  # noqa: PLC0415  over there only

        self.began_s = time.monotonic()
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Take a step; raises Cancelled when nobody waits any longer."""
        step = int(engine.state.iteration)
        output = engine.state.output
        loss = float((output[0] if isinstance(output, list) else output)["loss"])
        rate = float(engine.optimizer.param_groups[0]["lr"])
        point = [step, self.steps, loss, rate, time.monotonic() - self.began_s]
        with self.file.open("a") as file:
            file.write(f"{json.dumps(point)}\n")
        self.report(min(1.0, step / self.steps), f"Step {step} of {self.steps}, loss {loss:.4f}")


def train(app: Any, words: Words, report: Report) -> Words:
    """Train from the weights `begin` (None: from nothing) and write those of the last step to `target`."""
    from monai.utils.misc import set_determinism  # noqa: PLC0415  over there only

    name = str(words["task"])
    trainer, folder = app._trainers[name], Path(str(words["folder"]))
    points = _Points(folder / "points.jsonl", int(cast("int", words["steps"])), report)
    handlers = trainer.train_handlers
    trainer.train_handlers = lambda context: [*handlers(context), points]
    trainer._load_path = words["begin"]
    set_determinism(int(cast("int", words["seed"])))
    with foreign(f"the training of {name!r}"):
        app.train(_request(words))
    final = Path(trainer._model_dir) / _RUN / trainer._final_filename
    if not final.is_file():
        raise PredictionFailed(f"the training of {name!r} ended without weights")
    written = torch.load(final, map_location="cpu", weights_only=True)
    state = written.get(trainer._model_dict_key, written)  # one thing alone is saved without its name
    key = getattr(app._infers.get(name), "model_state_dict", trainer._model_dict_key)
    torch.save({key: state}, str(words["target"]))
    return {}


def _request(words: Words) -> Mapping[str, object]:
    """Return what MONAI Label's own server would be asked, for one device and without its split and its tracking."""
    return {
        "model": words["task"],
        "name": _RUN,
        "device": words["device"],
        "max_epochs": words["epochs"],
        "pretrained": words["begin"] is not None,
        "val_split": 0.0,
        "train_batch_size": 1,
        "dataset": "Dataset",
        "dataloader": "DataLoader",
        "multi_gpu": False,
        "tracking": "None",
    }
