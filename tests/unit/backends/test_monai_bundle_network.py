"""Building a network of MONAI takes no more of MONAI than it needs."""

import subprocess
import sys

import pytest

from annotate_server.backends.monai_bundle.network import hidden


def test_a_hidden_package_is_there_again_afterwards() -> None:
    program = """
import sys, json
from annotate_server.backends.monai_bundle.network import hidden
with hidden(("json", "colorsys")):
    import json
    try:
        import colorsys
    except ImportError:
        print("hidden")
import colorsys
print(json.dumps(colorsys.__name__))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.split() == ["hidden", '"colorsys"']


def test_what_fails_while_packages_are_hidden_hides_nothing_for_ever() -> None:
    with pytest.raises(ZeroDivisionError), hidden(("no_such_package",)):
        _ = 1 / 0
    assert "no_such_package" not in sys.modules


def test_pictures_are_not_loaded_for_a_network() -> None:
    program = """
import sys
from annotate_server.backends.monai_bundle.network import NetworkPlan
arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
NetworkPlan("UNet", arguments).build()
print("monai" in sys.modules, "matplotlib" in sys.modules)
import matplotlib
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.split() == ["True", "False"]
