"""The command `spoter check-archive`."""

from pathlib import Path
from typing import Annotated

import typer


def check_archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .mar, or a model.tar.gz.")],
    other_code: Annotated[
        bool, typer.Option("--other-code", help="Accept code that is not this checkout's: you trust who built it.")
    ] = False,
) -> None:
    """Tell whether an archive from elsewhere may be served, without running anything of it."""
    from spoter.ops.archive_check import checks
    from spoter.ops.doctor import show

    if not show(checks(file, other_code)):
        raise typer.Exit(1)
