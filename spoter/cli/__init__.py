"""The command line: one module per command, and what commands share without importing NumPy."""

from typing import Annotated, Any

import typer

STYLE: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "markdown",  # Rich's own markup would drop "[default: one per core]" from a help text
}
"""Settings of every `typer.Typer`."""

EXAMPLES = "Examples:\n\n```console\n{}\n```"
"""The epilog of a command's help, to be filled with commands."""

_RUNTIME = typer.Option(envvar="SPOTER_RUNTIME", help="torch, onnx or onnx-int8.", show_default="as in config.json")
Runtime = Annotated[str | None, _RUNTIME]


def port_option(variable: str, text: str) -> Any:
    """Return the option of a TCP port with an environment variable and a help text."""
    return typer.Option(envvar=variable, min=1, max=65535, help=text)
