"""
Scenarios: throw-away databases, each made by a Python file in `scenarios/`.

discovery (the files) and databases (the server) → loading → expectations; the management commands and
pytest_plugin use these. launch runs a program on a loaded scenario, isolation keeps a scenario's code off the
application's database, banner labels the responses of a scenario.

checkpoints saves states of a loaded scenario and goes back to them, comparison compares two. rehearsal runs
pending migrations on a copy and measures them (schema, old_code).
"""


class ScenarioError(Exception):
    """An error whose message is shown to the user: the cause and the next command."""
