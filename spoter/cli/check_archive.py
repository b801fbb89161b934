"""The command `spoter check-archive`."""

from pathlib import Path
from typing import Annotated

import typer


def check_archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .mar file or a model.tar.gz.")],
    other_code: Annotated[
        bool, typer.Option("--other-code", help="Accept code that differs from this checkout's, if you trust it.")
    ] = False,
) -> None:
    """Check whether an archive from somebody else may be served, without running it."""
    from spoter.ops.archive_check import checks
    from spoter.ops.doctor import show

    if not show(checks(file, other_code)):
        raise typer.Exit(1)
