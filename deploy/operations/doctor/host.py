"""The host: disk, memory, clock, the engine's version, names and ports."""

import ctypes
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from deploy.operations.doctor.finding import Finding, error, ok, warning

NOT_SYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)"""

FLOORS = {
    "Compose": ((2, 24), "it does not know `!reset` and `!override` of compose.managed.yml"),
    "runc": (
        (1, 1, 8),
        "a restarted container's tmpfs loses its mode (runc #3911); compose.yml works around it",
    ),
    "nginx": ((1, 27, 3), "`server … resolve` and `http2 on` are not known"),
    "PostgreSQL": ((18,), "the project is written for 18"),
}
"""The oldest version without a known fault, and what the fault is."""

UPGRADES = {
    "Compose": "apt install --only-upgrade docker-compose-v2",
    "nginx": "docker pull nginx:1.30, then ./deploy/rentomatic apply --accept",
    "PostgreSQL": "./deploy/rentomatic upgrade 18",
}
"""What brings a newer version, where it is no package of that name."""


def disk(folders: Iterable[Path]) -> Finding:
    """Less than 5 % or 1 GB free is an error, less than 15 % a warning."""
    rows = []
    for folder in folders:
        status = os.statvfs(folder)
        rows.append((status.f_bavail / max(1, status.f_blocks), status.f_bavail * status.f_frsize, folder))
    share, free, folder = min(rows)
    text = f"{free / 10**9:.1f} GB free, {share:.0%} of the disk of {folder}"
    if share < 0.05 or free < 10**9:
        return error(text, "docker image prune; docker builder prune; ls -lhS deploy/backups")
    if share < 0.15:
        return warning(text, "docker system df; ls -lhS deploy/backups")
    return ok(text)


def inodes(folders: Iterable[Path]) -> Finding:
    rows = []
    for folder in folders:
        status = os.statvfs(folder)
        if status.f_files:  # some file systems have no limit
            rows.append((status.f_favail / status.f_files, folder))
    if not rows:
        return ok("the file system has no limit of inodes")
    share, folder = min(rows)
    text = f"{share:.0%} of the inodes of {folder} free"
    return ok(text) if share >= 0.05 else error(text, f"df -i {folder}; docker system prune")


def memory(meminfo: str) -> Finding:
    """From /proc/meminfo: what programs could still get."""
    values = {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.M)}
    share = values["MemAvailable"] / values["MemTotal"]
    text = f"{values['MemAvailable'] / 10**6:.1f} GB of memory available, {share:.0%}"
    if share < 0.05:
        return error(text, "docker stats --no-stream; ps aux --sort -rss | head")
    return ok(text) if share >= 0.1 else warning(text, "docker stats --no-stream")


def clock_state() -> int:
    """What adjtimex(2) says of the clock."""
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))


def clock(state: int, now: float, newest: float) -> Finding:
    """`newest` is the latest time that was written down: a clock behind it has gone back."""
    if now < newest - 60:
        return error(
            f"the clock is {newest - now:.0f} s behind the newest backup or journal line", "timedatectl"
        )
    if state == NOT_SYNCHRONISED:
        return warning("the clock is not synchronised", "timedatectl set-ntp true")
    return ok("the clock is synchronised")


def versions(found: dict[str, str]) -> Finding:
    """By name, such as {"runc": "1.1.5"}."""
    faults, commands = [], []
    for name, version in found.items():
        floor, fault = FLOORS.get(name, ((), ""))
        if floor and numbers(version) < floor:
            faults.append(f"{name} {version} has a known fault: {fault}")
            commands.append(UPGRADES.get(name, f"apt install --only-upgrade {name.lower()}"))
    if faults:
        return warning("; ".join(faults), "; ".join(commands))
    return ok(", ".join(f"{name} {version}" for name, version in found.items()))


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def dns(host: str) -> Finding:
    try:
        addresses = sorted({str(row[4][0]) for row in socket.getaddrinfo(host, None)})
    except OSError as reason:
        return error(f"{host} has no address ({reason})", f"getent ahosts {host}; SITE_HOST in .env")
    return ok(f"{host} is {', '.join(addresses)}")


def ports(published: Iterable[tuple[str, int]]) -> Finding:
    """Whether somebody listens on each address and port."""
    closed = []
    for address, number in published:
        try:
            socket.create_connection((address, number), 2).close()
        except OSError:
            closed.append(str(number))
    if closed:
        return error(f"nobody listens on port {' and '.join(closed)}", "docker compose ps nginx")
    return ok("the published ports are open")
