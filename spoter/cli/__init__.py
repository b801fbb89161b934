"""The command line: a module for each command, and what they share."""

from typing import Any

STYLE: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "markdown",  # Rich's own markup would leave "[default: one a core]" out of a help text
}
"""Settings of every `typer.Typer`."""
