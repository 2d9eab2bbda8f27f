"""What another interpreter runs first: it makes our package importable there, without anything else of ours.

The package is registered bare: its own `__init__` does not run, and none of our installed packages becomes visible.
This file must be readable by old interpreters too, so that one can say that it is too old.
"""

import sys
import types

_LEAST = (3, 11)
_TOO_OLD, _NO_NUMPY = 90, 91  # as in `messages`, which cannot be imported yet


def _main() -> None:
    package, connection, lifeline = sys.argv[1:4]
    if sys.version_info[:2] < _LEAST:
        found = ".".join(str(number) for number in sys.version_info[:3])
        least = ".".join(str(number) for number in _LEAST)
        sys.stderr.write("Python " + found + " is too old: " + least + " or a newer one is needed\n")
        sys.exit(_TOO_OLD)
    try:
        import numpy  # noqa: F401, PLC0415
    except ImportError as error:
        sys.stderr.write("numpy cannot be imported: " + str(error) + "\n")
        sys.exit(_NO_NUMPY)
    bare = types.ModuleType("annotate_server")
    bare.__path__ = [package]
    sys.modules["annotate_server"] = bare
    from annotate_server.backends.environments.serving import serve  # noqa: PLC0415  importable from here on

    serve(int(connection), int(lifeline))


if __name__ == "__main__":
    _main()
