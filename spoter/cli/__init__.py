"""The command line: one module per command, and what commands share without importing NumPy."""

from typing import Annotated, Any

import typer

STYLE: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "markdown",  # Rich's own markup would drop "[default: one per core]" from a help text
}
"""Settings of every `typer.Typer`."""

Runtime = Annotated[
    str | None,
    typer.Option(envvar="SPOTER_RUNTIME", help="torch, onnx or onnx-int8.", show_default="the one in config.json"),
]


def show_examples(*commands: str) -> str:
    """Return the epilog of a command's help: examples as a fenced block."""
    return "\n".join(["Examples:\n", "```console", *commands, "```"])
