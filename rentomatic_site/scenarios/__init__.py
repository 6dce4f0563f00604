"""
Scenarios: throw-away databases, each made by a Python file in `scenarios/`.

catalogue (the files) and databases (the server) → loading → expectations; the management commands and the
pytest plugin (collection) stand on these. query_lab and capture start from a query, banner shows which
scenario a page is of.
"""


class ScenarioError(Exception):
    """A failure in words for people: the cause and what to type next."""
