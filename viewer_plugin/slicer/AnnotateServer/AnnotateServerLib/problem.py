"""What went wrong, as a sentence for a person: the server's own, or ours where the server could not be asked."""

from __future__ import annotations

import json

UNREACHABLE = 0
PROGRAM = -1


class Problem(Exception):
    """A sentence, and what to do about it.

    `status` is the server's, UNREACHABLE where it did not answer, PROGRAM where it was not asked. `kind` is the last
    part of the problem's type. `session` and `person` are there where somebody has the case.
    """

    def __init__(self, sentence: str, remedy: str = "", status: int = PROGRAM, kind: str = "") -> None:
        super().__init__(sentence)
        self.sentence, self.remedy, self.status, self.kind = sentence, remedy, status, kind
        self.session = self.person = ""

    @property
    def text(self) -> str:
        """Return the sentence and what to do, for the panel."""
        return f"{self.sentence} {self.remedy}".strip()

    @property
    def may_pass(self) -> bool:
        """Say whether the same may work in a moment."""
        return self.status in (UNREACHABLE, 429) or self.status >= 500


def cancelled() -> Problem:
    """Return what became of something that a person stopped."""
    return Problem("It was cancelled.", kind="cancelled")


def unreachable(said: str) -> Problem:
    """Return what to say where nobody answers; `said` is how the network puts it."""
    remedy = "Check the address and whether the server runs. What you drew is kept here and sent when it answers."
    return Problem(f"The server cannot be reached ({_ended(said)}).", remedy, UNREACHABLE, "unreachable")


def problem_of(status: int, body: bytes, said: str) -> Problem:
    """Return the problem of an answer: RFC 9457, or a page of something in between."""
    try:
        told = json.loads(body.decode("utf-8"))
    except (ValueError, UnicodeDecodeError):
        told = None
    if not isinstance(told, dict) or "detail" not in told:
        return _unspoken(status, said)
    session, person = str(told.get("session") or ""), str(told.get("person") or "")
    detail = _sentence(str(told["detail"]), person)
    problem = Problem(detail, str(told.get("remedy", "")), status, str(told.get("type", "")).rpartition(":")[2])
    problem.session, problem.person = session, person
    if status == 401:
        problem.remedy = "Enter the token that `annotate users add` gave you."
    return problem


def _unspoken(status: int, said: str) -> Problem:
    if status == 404:
        remedy = "Check the address: it is the one that `annotate serve` prints."
        return Problem("There is no annotate server at this address.", remedy, status, "no-server")
    if 300 <= status < 400:
        return Problem("The address leads elsewhere.", "Enter the address that it leads to.", status, "moved")
    return Problem(f"The server answered {status} ({_ended(said)}).", "", status)


def _sentence(text: str, person: str) -> str:
    """Return a sentence that begins with a capital letter, unless it begins with somebody's name."""
    text = text.strip()
    if not (person and text.startswith(person)):
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _ended(text: str) -> str:
    return text.strip().rstrip(".")
