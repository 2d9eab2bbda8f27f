"""What runs in the other interpreter during the tests of guests."""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import numpy as np

from annotate_server.domain.errors import InvalidPrompt, WeightsInvalid


class ToyDesk:
    """Answers by the name of the verb."""

    def __init__(self):
        self.calls = 0

    def answer(self, verb, words, arrays, report):
        self.calls += 1
        return getattr(self, verb)(words, arrays, report)

    def double(self, words, arrays, report):
        report(0.5, "Doubling")
        sys.stdout.write("this line must not disturb anything\n")
        os.write(1, b"nor this one\n")
        return {"calls": self.calls, **words}, {name: array * 2 for name, array in arrays.items()}

    def surroundings(self, words, arrays, report):
        packages = ("pydicom", "SimpleITK", "fastapi")
        return {
            "variables": dict(os.environ),
            "found": [name for name in packages if importlib.util.find_spec(name)],
            "package": sys.modules["annotate_server"].__dict__.get("__version__"),
            "executable": sys.executable,
        }, {}

    def refuse(self, words, arrays, report):
        raise InvalidPrompt("the point lies outside", remedy="Click elsewhere.")

    def throw(self, words, arrays, report):
        raise KeyError("no such layer")

    def leave(self, words, arrays, report):
        sys.exit("not in the mood")

    def end(self, words, arrays, report):
        sys.stderr.write("out of luck\n")
        os._exit(7)

    def killed(self, words, arrays, report):
        os.kill(os.getpid(), signal.SIGKILL)

    def patient(self, words, arrays, report):
        for step in range(600):
            report(step / 600, "Working")
            time.sleep(0.02)
        return {}, {}

    def deaf(self, words, arrays, report):
        time.sleep(60)
        return {}, {}

    def parent(self, words, arrays, report):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        return {"child": child.pid, "guest": os.getpid()}, {}

    def writable(self, words, arrays, report):
        return {"writable": bool(arrays["volume"].flags.writeable), "words": repr(words)}, {"count": np.arange(3)}

    def odd(self, words, arrays, report):
        return {"no JSON": object()}, {}


def open(words):
    if words.get("broken"):
        raise ImportError("No module named 'torch'")
    if words.get("invalid"):
        raise WeightsInvalid("the weights are another network's", source="model.pt")
    if words.get("slow"):
        time.sleep(60)
    return ToyDesk()
