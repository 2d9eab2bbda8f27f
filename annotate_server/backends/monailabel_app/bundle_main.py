"""The `main.py` of an app that is made of a MONAI bundle: one task, which runs the bundle's own inference.

It is copied beside the bundle, and runs over there, with the bundle's own code.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from monai.bundle.workflows import ConfigWorkflow
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

_INFERENCE = ("inference.json", "inference.yaml", "inference.yml")
_IMAGES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


class BundleApp(MONAILabelApp):  # type: ignore[misc]  # it is not installed on this side
    """The app: its one task is called as the bundle's folder."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        """Take the bundle that lies in the folder `bundle`."""
        (self.bundle,) = (Path(app_dir) / "bundle").iterdir()
        self.words = json.loads((self.bundle / "configs" / "metadata.json").read_text(encoding="utf-8-sig"))
        name, version = (str(self.words.get(key, "")) for key in ("name", "version"))
        super().__init__(app_dir=app_dir, studies=studies, conf=conf, name=name or "a MONAI bundle", version=version)

    def init_infers(self) -> dict[str, InferTask]:
        """Return the task."""
        return {self.bundle.name: BundleTask(self.bundle, self.words)}


class BundleTask(InferTask):  # type: ignore[misc]  # as above
    """Runs `initialize` and `run` of the bundle's description of inference on one volume.

    Everything is read anew for each volume, the weights included: what a bundle's code keeps of one must not reach the
    next.
    """

    def __init__(self, folder: Path, words: dict[str, Any]) -> None:
        """Take the labels from the bundle's `channel_def`."""
        prediction = next(iter(words["network_data_format"]["outputs"].values()))
        labels = {str(name): int(number) for number, name in prediction.get("channel_def", {}).items()}
        super().__init__(InferType.SEGMENTATION, labels, 3, str(words.get("description", "")))
        self._folder = folder
        weights = sorted((folder / "models").glob("model*.*")) or [folder / "models" / "model.pt"]
        self.path = [str(path) for path in weights]

    def is_valid(self) -> bool:
        """Say that it is there."""
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the one volume that the bundle writes about `request["image"]`."""
        out = tempfile.mkdtemp()
        configs = self._folder / "configs"
        inference = next(configs / name for name in _INFERENCE if (configs / name).is_file())
        flow = ConfigWorkflow(
            str(inference), str(configs / "metadata.json"), logging_file=False, workflow_type="inference"
        )
        flow.parser["bundle_root"] = str(self._folder)
        flow.parser["output_dir"] = out
        flow.parser["device"] = f"$torch.device({str(request.get('device', 'cpu'))!r})"
        flow.parser["dataset::data"] = [{flow.parser.get("image_key", "image"): request["image"]}]
        before = list(sys.path)
        sys.path.insert(0, str(self._folder))  # `run` adds it as well, once more with each volume
        try:
            flow.initialize()
            flow.run()
            flow.finalize()
        finally:
            sys.path[:] = before
        written = [path for path in sorted(Path(out).rglob("*")) if path.name.endswith(_IMAGES)]
        if len(written) != 1:
            raise RuntimeError(f"the bundle wrote {len(written)} volumes into its output_dir, and one is expected")
        return str(written[0]), {}
