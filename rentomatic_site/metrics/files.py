"""The folder of the metrics' files, METRICS_DIR: one file a process and kind, on a file system in memory."""

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

ENDED = 0
"""In the place of a process id: the sums of all processes that have ended."""


def prepare(folder: Path) -> None:
    """
    Make the folder, or empty it of what former processes have left. OSError where it is not ours: another
    user could have made it, in a place such as /dev/shm.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    for path in folder.glob("*.db"):
        path.unlink()


@contextmanager
def lock(folder: Path, operation: int) -> Iterator[None]:
    """Hold the folder's lock, LOCK_SH or LOCK_EX; BlockingIOError with LOCK_NB."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, operation)
        yield


def forget(folder: Path, running: set[int]) -> None:
    """
    Take in the files of processes that have ended: their gauges go, and counts are added to one file.

    Without it each restart of a worker would leave files, and each scrape read all of them. While a scrape
    reads, they are left for the next call.
    """
    try:
        with lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for pid in pids(folder, "gauge_livesum") - running:
                mark_process_dead(pid, str(folder))
            for kind in ("counter", "histogram"):
                merge(folder, kind, pids(folder, kind) - running - {ENDED})
    except BlockingIOError:
        return


def pids(folder: Path, kind: str) -> set[int]:
    return {int(path.stem.rpartition("_")[2]) for path in folder.glob(f"{kind}_*.db")}


def merge(folder: Path, kind: str, ended: set[int]) -> None:
    """Add the files of the processes to the file of ENDED."""
    if not ended:
        return
    sums: defaultdict[str, float] = defaultdict(float)
    merged = folder / f"{kind}_{ENDED}.db"
    old = [folder / f"{kind}_{pid}.db" for pid in ended]
    for path in [*old, merged]:
        if path.exists():
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):
                sums[key] += value
    new = folder / "merging"
    new.unlink(missing_ok=True)
    values = MmapedDict(str(new))
    for key, value in sums.items():
        values.write_value(key, value, 0.0)
    values.close()
    new.replace(merged)
    for path in old:
        path.unlink()
