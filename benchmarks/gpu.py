"""What an attachment costs large models on a GPU: Wan 2.1 14B and HunyuanVideo in bfloat16, with random weights.

    python benchmarks/gpu.py --rehearse            # here, on a CPU: every row at a tiny size; its times mean nothing
    python benchmarks/gpu.py --pack                # here: wheels for a machine without diffusers, and what to run there
    python benchmarks/gpu.py --out out/gpu.md      # there: six minutes on one H200 of 141 GB

The table is written after every row, so that a run that is cut short leaves what it has.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--pack", action="store_true", help="fetch the wheels for another machine")
    kind.add_argument("--rehearse", action="store_true", help="on the CPU, at tiny sizes")
    parser.add_argument("--out", type=Path, default=Path("out/gpu.md"), help="the table, in Markdown")
    arguments = parser.parse_args(argv)
    if arguments.pack:
        from gpu_pack import pack

        return pack()
    try:
        import torch
        from diffusers.utils import logging

        from gpu_models import GPU, REHEARSAL
        from gpu_rows import gpu_rows
    except ImportError as error:
        sys.exit(
            f"{error}. Run benchmarks/gpu.py --pack where there is a network: it says how to bring what is missing."
        )
    if not (arguments.rehearse or torch.cuda.is_available()):
        sys.exit("There is no GPU here; benchmarks/gpu.py --rehearse runs every row on the CPU at a tiny size.")
    logging.set_verbosity_error()  # attention backends are called experimental, one line each time
    begin = time.monotonic()
    rows: list[Any] = []
    for row in gpu_rows(REHEARSAL if arguments.rehearse else GPU):
        rows.append(row)
        print(" | ".join(row), flush=True)
        written(arguments.out, rows, heading(is_rehearsal=arguments.rehearse, seconds=time.monotonic() - begin))
    print(f"written to {arguments.out}")


def heading(*, is_rehearsal: bool, seconds: float) -> str:
    import torch

    where = "a CPU: a rehearsal at tiny sizes, whose times mean nothing"
    if not is_rehearsal:
        where = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "alignvid"))
    return f"{time.strftime('%Y-%m-%d')}, {where}; Python {sys.version.split()[0]}, {packages}; {seconds:.0f} s"


def written(path: Path, rows: Iterable[Any], title: str) -> None:
    """As a Markdown table."""
    lines = [list(row) for row in rows]
    names = [name.replace("_", " ") for name in next(iter(rows))._fields]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in [names, ["---"] * len(names), *lines])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{title}\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
