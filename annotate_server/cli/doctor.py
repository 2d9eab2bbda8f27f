"""`annotate doctor`: what is installed, which device, what is missing and how to get it."""

import os
import platform
import shutil
from dataclasses import dataclass

import typer

from annotate_server import __version__
from annotate_server.api.viewer_build import BUILT, HOW_TO_BUILD, viewer_build
from annotate_server.backends.devices import cards, processor
from annotate_server.backends.environments.making import state_of
from annotate_server.backends.environments.recipes import RECIPES
from annotate_server.bootstrap import Ports
from annotate_server.cli.console import Exit, JsonOption, WorkspaceOption, out, ports, print_json, reporting
from annotate_server.domain.errors import AnnotateError

_LEAST_FREE_BYTES = 2 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` is there where something is to be done."""

    subject: str
    state: str
    ok: bool = True
    remedy: str = ""


def doctor(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say what is installed, which device is used, what is missing and how to get it.

    The exit code is 1 when something keeps the program from working; a model without weights is no such thing.
    """
    with reporting(as_json):
        found = ports(workspace)
        findings = [
            *(*_machine(), _viewer(), *_workspace(found)),
            *(*_backends(found), *_environments(), *_models(found), *_settings(found)),
        ]
        if as_json:
            print_json({"ok": all(f.ok for f in findings), "findings": [_as_json(f) for f in findings]})
        else:
            for finding in findings:
                mark = "ok " if finding.ok and not finding.remedy else ("-- " if finding.ok else "NO ")
                out.print(f"{mark} {finding.subject:28} {finding.state}", markup=False, soft_wrap=True)
                if finding.remedy:
                    out.print(f"    {'':28} {finding.remedy}", markup=False, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(Exit.FAILED)


def _machine() -> list[Finding]:
    cpu = processor()
    gpu = ", ".join(cards())
    return [
        Finding("annotate-server", __version__),
        Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("processor", f"{cpu.name}, {cpu.cores} core(s), {' '.join(cpu.features) or 'no vector extensions'}"),
        Finding("graphics card", gpu or "none that torch can use; models run on the processor"),
    ]


def _workspace(found: Ports) -> list[Finding]:
    folder = found.settings.workspace
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    return [
        Finding(
            "workspace",
            f"{folder} ({free / 1e9:.1f} GB free)",
            ok=writable,
            remedy="" if writable else "Name a folder that you may write to with --workspace.",
        ),
        Finding(
            "free space",
            "enough" if free > _LEAST_FREE_BYTES else "less than 2 GB",
            remedy="" if free > _LEAST_FREE_BYTES else "Free some before a long batch.",
        ),
    ]


def _viewer() -> Finding:
    build = viewer_build(BUILT)
    if build is None:
        return Finding("viewer", "not built", remedy=HOW_TO_BUILD)
    return Finding("viewer", f"{build.made_from}, {build.stored_bytes / 1e6:.1f} MB")


def _backends(found: Ports) -> list[Finding]:
    reasons = found.backends.unavailable()
    return [
        Finding(f"backend {name}", "ready" if name not in reasons else "unavailable", remedy=reasons.get(name, ""))
        for name in found.backends.names()
    ]


def _environments() -> list[Finding]:
    states = [state_of(recipe) for recipe in RECIPES.values()]
    return [
        Finding(f"environment {each.kind}", f"{each.state}, for {each.purpose}", remedy=each.remedy) for each in states
    ]


def _models(found: Ports) -> list[Finding]:
    findings = []
    for name in found.registry.names():
        try:
            missing = found.registry.missing(found.registry.app(name))
        except AnnotateError as error:
            findings.append(Finding(f"model {name}", "broken", ok=False, remedy=str(error)))
            continue
        state = "weights missing" if missing else "ready"
        findings.append(Finding(f"model {name}", state, remedy=f"annotate models pull {name}" if missing else ""))
    return findings


def _settings(found: Ports) -> list[Finding]:
    return [
        Finding(f"setting {name}", f"{getattr(found.settings, name)}   {field.description}")
        for name, field in type(found.settings).model_fields.items()
    ]


def _as_json(finding: Finding) -> dict[str, object]:
    return {"subject": finding.subject, "state": finding.state, "ok": finding.ok, "remedy": finding.remedy}
