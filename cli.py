"""The door: Typer commands that parse, call one function and print."""


def main() -> None:
    """Run the command line."""
