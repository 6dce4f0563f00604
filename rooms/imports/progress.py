"""Progress of long-running work: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LINE_INTERVAL = 2.0  # seconds; work that takes less prints no line


@contextmanager
def progress(total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """
    Yield `advance(n)`, to be called after each further `n` units of `total` (`None`: not known).

    It writes to stderr, so that stdout has results only:

        with progress(1_000_000, "rooms") as advance:
            advance(50_000)
    """
    if sys.stderr.isatty():
        with tqdm(total=total, unit=f" {unit}", leave=False, dynamic_ncols=True, smoothing=0) as bar:

            def advance(n: int) -> None:
                bar.update(n)

            yield advance
    else:
        done, printed_at = 0, time.monotonic()

        def print_line(n: int) -> None:
            nonlocal done, printed_at
            done += n
            if time.monotonic() - printed_at >= LINE_INTERVAL:
                printed_at = time.monotonic()
                of_total = f" of {total:,}" if total is not None else ""
                sys.stderr.write(f"{done:,}{of_total} {unit}\n")
                sys.stderr.flush()

        yield print_line
