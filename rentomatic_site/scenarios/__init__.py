"""
Scenarios: throw-away databases, each made by a Python file in `scenarios/`.

discovery (the files) and databases (the server) → loading → expectations; the management commands and
pytest_plugin use these. launch runs a program on a loaded scenario, isolation keeps a scenario's code off the
application's database, query_lab measures queries, banner labels the responses of a scenario.
"""


class ScenarioError(Exception):
    """An error whose message is shown to the user: the cause and the next command."""
