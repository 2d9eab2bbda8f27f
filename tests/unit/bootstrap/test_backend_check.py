"""Asking for backends loads none of them into the process that asks."""

import subprocess
import sys


def test_the_web_process_imports_no_backend_to_know_which_can_be_used() -> None:
    program = (
        "import sys\n"
        "from annotate_server.bootstrap.backend_check import BackendCheck\n"
        "check = BackendCheck()\n"
        "assert check.unavailable() == check.unavailable() == {}, check.unavailable()\n"
        "print(sorted({'torch', 'scipy', 'numba', 'SimpleITK'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
