"""Asking for backends loads none of them into the process that asks."""

import subprocess
import sys
from pathlib import Path


def test_the_web_process_imports_no_backend_to_know_which_can_be_used(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from annotate_server.backends.environments.environment import READY_MARK, use_folder\n"
        "from annotate_server.bootstrap.backend_check import BackendCheck\n"
        "check = BackendCheck()\n"
        "use_folder(Path(sys.argv[1]))\n"
        "missing = check.unavailable()\n"
        "assert set(missing) == {'monailabel_app', 'nninteractive'}, missing\n"
        "(Path(sys.argv[1]) / 'nninteractive' / 'bin').mkdir(parents=True)\n"
        "(Path(sys.argv[1]) / 'nninteractive' / 'bin' / 'python').touch()\n"
        "(Path(sys.argv[1]) / 'nninteractive' / READY_MARK).touch()\n"
        "assert check.unavailable() == {'monailabel_app': missing['monailabel_app']}, 'it is looked at each time'\n"
        "assert 'Run: annotate models env monailabel' in missing['monailabel_app']\n"
        "print(sorted({'torch', 'scipy', 'numba', 'SimpleITK'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
