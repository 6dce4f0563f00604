"""
What the code of one revision can do on a database: it requests paths, and reads and writes a row of each
model, which is rolled back. Prints JSON: step → result.

Started with the code of that revision on the path; so this file imports nothing of the project.

    python -P old_code_probe.py '["/rooms"]'
"""

import hashlib
import json
import sys
from collections.abc import Callable
from typing import Any

import django


def main(paths: list[str]) -> dict[str, str]:
    django.setup()
    from django.apps import apps
    from django.conf import settings
    from django.test import Client

    host = next((host for host in settings.ALLOWED_HOSTS if host.strip(".*")), "localhost")
    headers = {"host": host.lstrip("."), "x-forwarded-proto": "https"}
    client = Client(raise_request_exception=False, headers=headers)
    results = {f"GET {path}": response(client, path) for path in paths}
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy:
            results |= {f"{step} {model._meta.label}": result for step, result in trial(model).items()}
    return results


def response(client: Any, path: str) -> str:
    """The status, and a hash of the body."""
    answer = client.get(path)
    return f"{answer.status_code} {hashlib.sha256(answer.getvalue()).hexdigest()[:12]}"


def trial(model: Any) -> dict[str, str]:
    """Read a row, write it, delete it and insert it again, each as the model does."""
    from django.db import DatabaseError, transaction

    results: dict[str, str] = {}
    row: Any = None

    def read() -> None:
        nonlocal row
        row = model._base_manager.order_by().first()

    steps: dict[str, Callable[[], object]] = {
        "read": read,
        "update": lambda: row and row.save(force_update=True),
        "delete": lambda: row and model._base_manager.filter(pk=row.pk)._raw_delete("default"),
        "insert": lambda: row and row.save(force_insert=True),
    }
    with transaction.atomic():
        for step, action in steps.items():
            try:
                with transaction.atomic():
                    action()
                results[step] = "ok"
            except DatabaseError as error:
                results[step] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        transaction.set_rollback(True)
    return results


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(json.loads(sys.argv[1]))))
