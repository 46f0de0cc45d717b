"""`make bench`: measurements as tables. Ratios are taken in one process, attached and not attached in turn."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table

import measures
import modulations
import overhead
import startup

SECTIONS = {
    "Attached / not attached, forward of the miniature's transformer": overhead.ratio_rows,
    "Tensor operations that an attachment adds": overhead.operation_rows,
    "What an active step costs by kind of modulation, all blocks": modulations.rows,
    "Measuring attention: dense / ours, memory, observing": measures.rows,
    "Start-up": startup.startup_rows,
    "The demo's sixteen videos": startup.demo_rows,
}


def main() -> None:
    torch.set_num_threads(1)  # one thread: two on two busy cores wait for each other
    console = Console(width=120)
    for title, rows in SECTIONS.items():
        table = Table("what", "measured", "target", "n", title=title, title_justify="left")
        for row in rows():
            table.add_row(*row)
        console.print(table)


if __name__ == "__main__":
    main()
