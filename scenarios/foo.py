"""The tutorial's first scenario: an empty database, and a line that says so."""


def run() -> None:
    print("HEY! This is scenario foo.")  # noqa: T201 - a scenario's output is what it prints
