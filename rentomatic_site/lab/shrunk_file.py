"""The scenario file of shrunk rooms."""

import json
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from rentomatic_site.lab.bench import Fields, Shrunk
from rentomatic_site.scenarios import expectations
from rentomatic_site.scenarios.expectations import Expectation

SOURCE = '''"""{rooms} of {before:,} in {scenario}: {label}."""

{imports}

{expect}
def run() -> None:
{body}
'''

WIDTH = 110


def source(scenario: str, module: ModuleType, result: Shrunk) -> str:
    """The file's text: the rooms, and the expectation that they fail."""
    rooms = result.rooms or []
    imports, expect = ["from rooms.seeding import room"] if rooms else [], ""
    if result.expectation == expectations.CHECK:
        imports.append(f"from scenarios.{scenario} import check  # noqa: F401 - it fails with these rooms")
    else:
        query, value = stated(module, result.expectation)
        expect = f"EXPECT = {{{json.dumps(query)}: {literal(value)}}}\n\n\n"
    values = [imported for room in rooms for imported in import_of(room)]
    text = SOURCE.format(
        rooms="No room" if not rooms else "1 room" if len(rooms) == 1 else f"{len(rooms):,} rooms",
        before=result.before,
        scenario=scenario,
        label=result.expectation,
        imports="\n".join([*sorted(set(values)), *([""] if values else []), *imports]),
        expect=expect or "\n",
        body="\n".join(map(line, rooms)) or "    pass",
    )
    return text.replace("\n\n\n\n", "\n\n\n")


def expected(module: ModuleType) -> list[Expectation]:
    """What can be shrunk: EXPECT and check. A plan depends on how many rooms there are."""
    names = {name: getattr(module, name) for name in ("EXPECT", "check") if hasattr(module, name)}
    return expectations.expectations(cast(ModuleType, SimpleNamespace(__file__=module.__file__, **names)))


def stated(module: ModuleType, label: str) -> tuple[str, Any]:
    """The key and the value of EXPECT of the expectation with that label."""
    for query, value in module.EXPECT.items():
        alone = SimpleNamespace(__file__=module.__file__, EXPECT={query: value})
        if expectations.expectations(cast(ModuleType, alone))[0].label == label:
            return query, value
    raise AssertionError(label)


def literal(value: Any) -> str:
    """The Python source of an expected value; sets in the order of their text."""
    if isinstance(value, set | frozenset):
        codes = sorted(map(str, value))
        return f"{{{', '.join(map(json.dumps, codes))}}}" if codes else "set()"
    if isinstance(value, list | tuple):
        return f"[{', '.join(json.dumps(str(code)) for code in value)}]"
    return repr(value)


def import_of(room: Fields) -> list[str]:
    kept = [value for value in room.values() if hasattr(value, "isoformat")]
    return ["import datetime"] if kept else []


def line(room: Fields) -> str:
    """The call that makes the room."""
    arguments = [f"{name}={argument(value)}" for name, value in room.items()]
    short = f"    room({', '.join(arguments)})"
    if len(short) <= WIDTH:
        return short
    return "\n".join(["    room(", *[f"        {text}," for text in arguments], "    )"])


def argument(value: Any) -> str:
    if value is None or isinstance(value, int | float):
        return repr(value)
    return repr(value) if hasattr(value, "isoformat") else json.dumps(str(value))
