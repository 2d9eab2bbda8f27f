"""Clients of others, each in a process of its own under the interpreter that they are installed for."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("client_program.py")
JS_PROGRAM = Path(__file__).with_name("ohif_program.mjs")
CLIENT_ID, END_S = "anne", 10


class Refused(Exception):
    """What a client made of an answer that it did not like."""

    def __init__(self, kind: str, status: int | None, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.status, self.text = kind, status, text


@dataclass(frozen=True)
class Library:
    """A class of a module of others; `folder` is where it lies, below the interpreter's environment."""

    module: str
    name: str
    folder: str = ""


PYTHON_CLIENT = Library("monailabel.client", "MONAILabelClient")
SLICER_CLIENT = Library("MONAILabelLib", "MONAILabelClient", "monailabel/plugins/slicer/MONAILabel")
REVIEWER = "monailabel/plugins/slicer/MONAILabelReviewer"
REVIEWER_CLIENT = Library("MONAILabelReviewerLib.MonaiServerREST", "MonaiServerREST", REVIEWER)
REVIEWER_LIST = Library("MONAILabelReviewerLib.JsonParser", "JsonParser", REVIEWER)
OHIF_CLIENT = "monailabel/plugins/ohifv3/extensions/monai-label/src/services/MonaiLabelClient.js"


@dataclass(frozen=True)
class ForeignClient:
    """A client that waits for calls."""

    process: subprocess.Popen[str]

    def call(self, name: str, *words: object) -> Any:
        """Call a method with words that JSON can say, and return its answer; raises Refused where it raises."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"call": name, "words": words}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the client ended at {name}"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"]["kind"], answer["error"]["status"], answer["error"]["text"])
        return answer["value"]


@contextmanager
def foreign_client(python: Path, library: Library, *words: object) -> Iterator[ForeignClient]:
    """Give a client made with `words`; its process ends with the block."""
    folder = str(python.parents[1] / library.folder) if library.folder else ""
    settings = {"module": library.module, "name": library.name, "words": words, "folder": folder}
    with _talking([str(python), "-W", "ignore", str(PROGRAM), json.dumps(settings)]) as client:
        yield client


@contextmanager
def ohif_client(node: Path, source: Path, url: str) -> Iterator[ForeignClient]:
    """Give the client of the OHIF plugin, run by node instead of a browser; its process ends with the block."""
    with _talking([str(node), str(JS_PROGRAM), str(source), url]) as client:
        yield client


@contextmanager
def _talking(command: list[str]) -> Iterator[ForeignClient]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield ForeignClient(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
