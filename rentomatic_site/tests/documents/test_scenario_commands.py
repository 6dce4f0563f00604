"""docs/scenarios.md has every action and option of the commands on loaded scenarios."""

import argparse

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import DjangoHelpFormatter

from rentomatic_site.testing.documents import Document

TABLE = " ".join(" ".join(row) for row in Document("docs/scenarios.md").rows("### Commands"))


def actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next((dict(action.choices) for action in parser._actions if isinstance(action.choices, dict)), {})


@pytest.mark.parametrize("command", ["scenario", "rehearse_migrations", "shrink_scenario"])
def test_every_action_and_option_of_a_command_is_in_the_table(command: str) -> None:
    parser = load_command_class(get_commands()[command], command).create_parser("manage.py", command)
    parsers = [parser, *actions(parser).values()]
    options = {option for one in parsers for action in one._actions for option in action.option_strings}
    own = {option for option in options if "--" in option} - DjangoHelpFormatter.show_last - {"--help"}
    assert [option for option in sorted(own) if option not in TABLE] == []
    assert [name for name in actions(parser) if f"`{command} {name}" not in TABLE] == []
