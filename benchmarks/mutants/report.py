"""The report, and the mutants that no test can notice."""

import difflib
import tomllib
from collections import Counter
from pathlib import Path

from cosmic_ray.work_item import MutationSpec, WorkResult

EQUIVALENT = Path("benchmarks", "equivalent_mutants.toml")


class Equivalent:
    """The mutants that no test can notice, with the reasons: module, then `line` or `line => other line`."""

    def __init__(self, root: Path) -> None:
        self.reasons: dict[str, dict[str, str]] = {}
        if (root / EQUIVALENT).exists():
            self.reasons = tomllib.loads((root / EQUIVALENT).read_text())

    def reason(self, module: Path, change: str) -> str | None:
        reasons = self.reasons.get(module.as_posix(), {})
        old, new = (" ".join(text_of(change, sign)) for sign in "-+")
        return reasons.get(f"{old} => {new}", reasons.get(old))

    def outdated(self, root: Path) -> list[str]:
        """The entries whose line is in the module no more."""
        return [
            f"{module}: {entry}"
            for module, reasons in self.reasons.items()
            for entry in reasons
            if entry.split(" => ")[0] not in " ".join((root / module).read_text().split())
        ]


def text_of(change: str, sign: str) -> list[str]:
    texts = [" ".join(line[1:].split()) for line in change.splitlines() if line.startswith(sign)]
    return [text for text in texts if text]


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and line[:3] not in {"+++", "---"}]


def position(mutation: MutationSpec) -> str:
    return f"{mutation.module_path}:{mutation.start_pos[0]}"


Measured = list[tuple[MutationSpec, WorkResult]]


def report(measured: Measured, equivalent: Equivalent) -> str:
    """The table by module, and the mutants that no test noticed and that are not equivalent."""
    counts: Counter[tuple[str, str]] = Counter()
    survivors = []
    for mutation, result in measured:
        told = "noticed"
        if not result.is_killed:
            told = "missed" if equivalent.reason(mutation.module_path, result.diff) is None else "equivalent"
        counts[str(mutation.module_path), told] += 1
        counts["all", told] += 1
        if told == "missed":
            survivors.append((mutation, result.diff))
    lines = ["| module | tried | equivalent | noticed | not noticed | share |", "|---|--:|--:|--:|--:|--:|"]
    for module in [*sorted({module for module, _ in counts} - {"all"}), "all"]:
        lines.append(row(module, *(counts[module, told] for told in ("equivalent", "noticed", "missed"))))
    for mutation, change in sorted(survivors, key=lambda pair: (pair[0].module_path, pair[0].start_pos)):
        lines += ["", position(mutation), "", "```diff", change, "```"]
    return "\n".join(lines) + "\n"


def row(module: str, excused: int, noticed: int, missed: int) -> str:
    share = f"{noticed / (noticed + missed):.0%}" if noticed + missed else "–"
    return f"| {module} | {excused + noticed + missed} | {excused} | {noticed} | {missed} | {share} |"
