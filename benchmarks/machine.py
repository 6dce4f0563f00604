"""The machine: its description, its cores, and the CPU time and memory of processes (Linux's /proc)."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")  # of /proc's CPU times, per second


class Cores(NamedTuple):
    """The cores: the server and PostgreSQL run on one, the load generator on another."""

    server: set[int]
    load: set[int]

    @property
    def apart(self) -> bool:
        return self.server != self.load


def cores() -> Cores:
    """The first and the last core that this process may use; the same one where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores({allowed[0]}, {allowed[-1]})


def pin(pids: Iterable[int], core: set[int]) -> bool:
    """Pin the processes to the core; False where one of them belongs to another user."""
    try:
        for pid in pids:
            os.sched_setaffinity(pid, core)
    except ProcessLookupError:
        return True  # it has ended
    except PermissionError:
        return False
    return True


def with_descendants(pid: int) -> list[int]:
    """The process and all its descendants."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(member for child in children for member in with_descendants(child))]


def program(pid: int) -> str:
    """The process's name; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that the processes used so far, in user and kernel mode."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def busy_seconds() -> float:
    """CPU time that everything on this machine used so far, on all cores together."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / TICKS


def reset_peak_memory(pids: Iterable[int]) -> None:
    """Reset the processes' peak memory to their present memory."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_memory(pids: Iterable[int]) -> int:
    """The largest resident set of any of the processes, in bytes, since the last reset."""
    return max(status_bytes(pid, "VmHWM") for pid in pids)


def status_bytes(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {key}")


def description() -> str:
    """One line: processor, cores, memory, system, load before the run."""
    processor = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{processor}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f} at the start"
    )
