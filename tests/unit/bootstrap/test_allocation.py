import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from annotate_server.bootstrap.allocation import give_large_blocks_back

class Facts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks a b c d e f".split()]

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
library.mallinfo2.restype = Facts
if sys.argv[1] == "yes":
    give_large_blocks_back()
library.free(library.malloc(16 << 20))
before = library.mallinfo2().hblks
library.malloc(8 << 20)
print(library.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another malloc than glibc's")
@pytest.mark.parametrize(("is_asked", "mapped"), [("no", "0"), ("yes", "1")])
def test_large_blocks_are_mapped_one_by_one_whatever_was_freed_before(is_asked: str, mapped: str) -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM, is_asked], stdout=subprocess.PIPE, text=True, check=True)
    assert found.stdout.strip() == mapped
