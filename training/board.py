"""The lines of ``log.csv`` for TensorBoard as well: ``tensorboard --logdir NAME.run``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tensorboardX import SummaryWriter

BOARD = "tensorboard"
# Curves of one picture share what precedes the stroke.
CURVES = {
    "loss": "loss/train",
    "validation_loss": "loss/validation",
    "parts_loss": "loss/parts",
}
# Takes the line of an epoch, which can be seen at once.
Note = Callable[[Mapping[str, float]], None]


@contextmanager
def board(run: Path, done: int) -> Iterator[Note]:
    """Open TensorBoard's log of a run of which so many epochs are done.

    Each command that trains adds a file. What an interrupted one wrote of epochs that were not
    kept is hidden by the next one's first event (``purge_step``).

    Parameters
    ----------
    run : Path
        The run's folder.
    done : int
    """
    folder = run / BOARD
    folder.mkdir(exist_ok=True)
    with SummaryWriter(str(folder), purge_step=done + 1, filename_suffix=f".{done}") as writer:

        def note(line: Mapping[str, float]) -> None:
            epoch = int(line["epoch"])
            for name, value in line.items():
                if name != "epoch":
                    writer.add_scalar(CURVES.get(name, name), value, epoch)
            writer.flush()

        yield note
