"""Pack a model folder for TorchServe and SageMaker: the same as `spoter pack`."""

import typer

from spoter.cli.pack import pack

if __name__ == "__main__":
    typer.run(pack)
