"""Networks through OpenVINO, an optional extra: faster than PyTorch on a CPU."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from annotate_server.backends.engine.precision import Precision
from annotate_server.domain.errors import BackendUnavailable


class OpenVinoRunner:
    """A network converted and compiled for windows of one shape, and batches of any size."""

    def __init__(self, network: nn.Module, precision: Precision, windows: Tensor) -> None:
        """Convert by tracing with `windows` (n, channels, k, j, i); takes seconds. May raise BackendUnavailable."""
        if find_spec("openvino") is None:
            raise BackendUnavailable(
                "OpenVINO is not installed", remedy="Run: pip install 'annotate-server[openvino]', or choose float32."
            )
        openvino: Any = import_module("openvino")
        # A batch of one: a traced network may have the number of windows in it as a constant.
        self._shape = [1, *windows.shape[1:]]
        with torch.inference_mode(), warnings.catch_warnings():
            # The converter calls torch.jit.trace, which warns of itself and of every layer that looks at a shape.
            warnings.simplefilter("ignore")
            model = openvino.convert_model(network.cpu().eval(), example_input=windows[:1], input=self._shape)
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision is Precision.OPENVINO_REDUCED else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self(windows)

    def __call__(self, batch: Tensor) -> Tensor:
        """Map (n, channels, k, j, i) to (n, classes, k, j, i), both float32."""
        outputs = []
        for window in torch.split(batch, 1):
            self._request.infer([window.contiguous().numpy()], share_inputs=True)
            outputs.append(torch.from_numpy(self._request.get_output_tensor(0).data.copy()))
        return torch.cat(outputs).float()
