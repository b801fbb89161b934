"""`python -m spoter`, and the program `spoter`."""

import sys


def main() -> None:
    """Run the command line, or print how to install it."""
    try:
        import typer  # noqa: F401
    except ImportError:
        print("error: the command line is not installed; run pip install 'spoter[cli]'", file=sys.stderr)
        raise SystemExit(2) from None
    from spoter.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
