"""The command line of skytally."""


def main() -> None:
    """Run the command line."""
