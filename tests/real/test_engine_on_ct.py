"""The sliding window engine on a real CT against MONAI's, and the benchmark itself."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet

from annotate_server.backends.classical.body import find_body
from annotate_server.backends.classical.scan import scan_of
from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.imaging.isolation import Isolated
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.stores.folder_studies import FolderStudies

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "sliding_window.py"


@pytest.mark.slow
@pytest.mark.real_data
def test_the_default_engine_agrees_with_monai_in_the_body_of_a_real_ct(test_data: Path) -> None:
    with Isolated() as isolated:
        folder = test_data / "04_liver_ct_dicom_crlm" / "CRLM-CT-1006" / "dicom"
        volume = IsolatedReader(isolated).read(next(iter(FolderStudies(folder, isolated).scan())))
        scan = scan_of(volume)
    body = find_body(scan).region
    values = (np.clip(scan.hu, -160, 240) / 200).astype(np.float32)
    torch.manual_seed(5)
    network = UNet(3, 1, 5, channels=(8, 16, 32), strides=(2, 2), num_res_units=1).eval()
    window = (32, 64, 64)
    with torch.inference_mode():
        tensor = torch.from_numpy(values)[None, None]
        expected = sliding_window_inference(tensor, window, 2, network, overlap=0.5, mode="gaussian")
    assert isinstance(expected, torch.Tensor)
    answer = Engine(network, SlidingWindow(window)).labels(values, body)
    assert (answer.labels == expected[0].argmax(0).numpy())[body].mean() >= 0.999


@pytest.mark.slow
def test_the_quick_benchmark_runs_and_its_default_agrees(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [
        sys.executable,
        str(BENCHMARK),
        "--quick",
        "--networks",
        "UNet",
        "--threads",
        "1",
        "--json",
        str(figures),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    rows = {row["name"]: row for row in json.loads(figures.read_text())["results"]}
    assert "processor:" in finished.stdout
    assert rows["+ memory kept between layers = default"]["agreement"] >= 0.999
    assert all(len(row["seconds"]) == 1 and row["tiles"] > 0 for row in rows.values())
