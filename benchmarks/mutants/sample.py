"""Which mutants of a module are measured."""

import ast
import random
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkItem


def place(item: WorkItem) -> tuple[object, ...]:
    """Where a mutant is and of which kind, without what is put there instead."""
    (mutation,) = item.mutations
    return mutation.start_pos, mutation.operator_name.split("_")[0]


def kind(item: WorkItem) -> tuple[str, int]:
    (mutation,) = item.mutations
    return mutation.operator_name, mutation.occurrence


def meaning(code: str) -> str:
    """The code without its type annotations; SyntaxError where it is no Python."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if isinstance(getattr(node, field, None), ast.expr):
                setattr(node, field, ast.Constant(None))
    return ast.dump(tree)


def changes_what_runs(item: WorkItem, code: str, means: str) -> bool:
    (mutation,) = item.mutations
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    try:
        return meaning(mutate_code(code, operator, mutation.occurrence) or code) != means
    except SyntaxError:
        return False


def choose(session: WorkDB, module: Path, sample: int, seed: int) -> list[str]:
    """
    A sample of this module's mutants, as their ids in the session; those that it lacks are added.

    At most one at each place: an addition alone has eleven, one for each other operator. A larger sample of
    the same seed holds a smaller one. Sorted first, because a session has no order of its own.
    """
    with use_db(":memory:") as everything:
        init([module], everything, {})
        items = sorted(everything.work_items, key=lambda item: (place(item), kind(item)))
    random.Random(seed).shuffle(items)  # noqa: S311, a sample
    code = module.read_text()
    means = meaning(code)
    taken: dict[tuple[object, ...], WorkItem] = {}
    for item in items:
        if sample and len(taken) == sample:
            break
        if place(item) not in taken and changes_what_runs(item, code, means):
            taken[place(item)] = item
    there = {kind(item): item.job_id for item in session.work_items}
    session.add_work_items(item for item in taken.values() if kind(item) not in there)
    return [there.get(kind(item), item.job_id) for item in taken.values()]
