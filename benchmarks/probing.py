"""Asks one address at a steady pace, each time on a new line, and writes the milliseconds of each answer as JSON.

python benchmarks/probing.py URL SECONDS

A process of its own, so that what else a benchmark does delays no answer.
"""

import http.client
import json
import sys
import time
from contextlib import suppress
from urllib.parse import urlsplit

EVERY_S = 0.1
LEAST = 10
LONGEST_S = 60.0
"""Where answers take long a few more are waited for than the seconds would allow."""


def probed(url: str, seconds: float) -> list[float]:
    """Return the milliseconds that each answer took, the connection included."""
    parts, times, begun = urlsplit(url), [], time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or (len(times) < LEAST and spent < LONGEST_S):
        asked = time.perf_counter()
        with suppress(TimeoutError):  # it counts as long as was waited for it
            line = http.client.HTTPConnection(parts.netloc, timeout=LONGEST_S)
            line.request("GET", parts.path)
            assert line.getresponse().read()  # noqa: S101  else the run means nothing
            line.close()
        times.append((time.perf_counter() - asked) * 1e3)
        time.sleep(EVERY_S)
    return times


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probed(sys.argv[1], float(sys.argv[2]))))
