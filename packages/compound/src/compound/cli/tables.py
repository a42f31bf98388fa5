"""Tables on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

WIDTH = 100


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = WIDTH
) -> None:
    """Print a table: the first column on the left, the others right-aligned.

    Args:
        title: above it.
        columns: their heads.
        rows: their cells.
        width: of the output at least, in characters; a wider terminal is used whole.
    """
    console = Console(width=max(width, Console().width))
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
