"""A client of others, driven from outside: runs under their Python, a line of JSON for each call and each answer.

Takes one argument, an object of `module`, `name` (a class), `words` (what it is made with) and `folder` (where the
module is looked for first; empty for an installed one).
"""

import importlib
import json
import logging
import os
import sys

MOST = 2000


def told(value: object) -> object:
    """Return what of an answer can be told as JSON."""
    content = getattr(value, "content", None)
    if isinstance(content, bytes):
        return {"status": value.status_code, "bytes": len(content)}  # type: ignore[attr-defined]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return json.loads(json.dumps(value, default=str))


def failed(error: Exception) -> object:
    """Return an error with the status that the client read, where it keeps one."""
    response = getattr(error, "response", None)
    text = response.decode("utf-8", "replace") if isinstance(response, bytes) else str(response or "")
    said = " ".join(map(str, (*error.args, getattr(error, "msg", ""), text)))
    return {"kind": type(error).__name__, "status": getattr(error, "status_code", None), "text": said[:MOST]}


def main() -> None:
    """Answer every line of the standard input."""
    logging.disable()
    settings = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the client prints is no answer
    if settings["folder"]:
        sys.path.insert(0, settings["folder"])
    module = importlib.import_module(settings["module"])
    client = getattr(module, settings["name"])(*settings["words"])
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"value": told(getattr(client, asked["call"])(*asked["words"]))}
        except Exception as error:  # whatever a client raises is its answer
            answer = {"error": failed(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
