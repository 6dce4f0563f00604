"""Progress of long work: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LINE_EVERY = 2.0  # seconds; quick work prints no line at all


@contextmanager
def progress(total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """
    Yield `advance(n)`, to be called after each further `n` units of `total` (`None`: not known).

    It writes to stderr, so that the results on stdout stay clean:

        with progress(1_000_000, "rooms") as advance:
            advance(50_000)
    """
    if sys.stderr.isatty():
        with tqdm(total=total, unit=f" {unit}", leave=False, dynamic_ncols=True, smoothing=0) as bar:

            def advance(n: int) -> None:
                bar.update(n)

            yield advance
    else:
        done, told = 0, time.monotonic()

        def tell(n: int) -> None:
            nonlocal done, told
            done += n
            if time.monotonic() - told >= LINE_EVERY:
                told = time.monotonic()
                of_total = f" of {total:,}" if total is not None else ""
                sys.stderr.write(f"{done:,}{of_total} {unit}\n")
                sys.stderr.flush()

        yield tell
