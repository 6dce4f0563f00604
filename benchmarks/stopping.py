"""How a run ends before its time."""

import signal
import sys
from collections.abc import Callable
from functools import wraps


def stoppable(main: Callable[[], int]) -> Callable[[], int]:
    """
    Let SIGTERM end a run like Ctrl-C, and Ctrl-C end it also in a background that ignores it.
    Servers are stopped and databases dropped on the way.
    """

    @wraps(main)
    def run() -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            return main()
        except KeyboardInterrupt:
            sys.stderr.write("Stopped; its servers and databases are gone.\n")
            return 130

    return run
