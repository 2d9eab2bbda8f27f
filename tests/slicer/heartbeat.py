"""A heartbeat: how long the window was held up, while something happened."""

import time

from stand_in.pythonqt import qt


class Heartbeat:
    """Ticks every 2 ms; used as a context manager, `longest_ms` is the longest time between two ticks."""

    def __init__(self):
        self.ticks = []
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", lambda: self.ticks.append(time.perf_counter()))

    def __enter__(self):
        self.ticks = [time.perf_counter()]
        self._timer.start(2)
        return self

    def __exit__(self, *_):
        self._timer.stop()
        self.ticks.append(time.perf_counter())

    @property
    def longest_ms(self):
        return 1000 * max(later - sooner for sooner, later in zip(self.ticks[:-1], self.ticks[1:], strict=True))
