"""The verb `hold`, with which make holds a folder's locks while a command computes there."""

from __future__ import annotations

from firstorder.cli import live, output, profile
from firstorder.cli.check import SELECTION, cell_of, cells_of, check_cell, paths_of, stale_of
from firstorder.cli.session import Session
from firstorder.cli.verbs import ALLOW_STALE, Arguments, argument, verb


@verb(
    "internal",
    *SELECTION,
    argument("--report", action="store_true", help="take only the lock of the report; refuse it if it is stale"),
    ALLOW_STALE,
    argument("--stale", action="store_true", help="append the stale files to the command, to be computed again"),
    argument("--choose-profile", action="store_true", help="let the command compute on the GPUs if there are any"),
    argument("--gpus", help="with --choose-profile: how many; 0: none; default: those that nobody computes on"),
    argument("--force", action="store_true", help="with --stale: append those of all chosen cells, fresh ones too"),
    argument("--told", default="another command", help="description shown to commands that wait for this one"),
    argument("command", nargs="+", help="the command, after --"),
)
def hold(arguments: Arguments) -> int:
    """Wait for the folder's locks, then run a command that holds them until it ends."""
    from firstorder.upkeep import locks

    session = Session.of(arguments)
    if arguments.report:
        wanted = [locks.Lock("report")]
    elif arguments.cell is None:
        wanted = locks.WHOLE
    else:
        check_cell(arguments)
        cell = cell_of(session, arguments)
        wanted = [locks.Lock(locks.FOLDER, shared=True), locks.Lock(f"training/{cell.training}/seed-{cell.seed}")]
    locks.take(session.root, wanted, arguments.told, output.say)
    # Only now, after the wait: the previous holder of the locks may have computed them.
    if arguments.report:
        from firstorder.report.read import staleness

        # Here and not in each job of Snakemake, which would say it again in lines of its own.
        staleness.check(session.root, staleness.shown(session.project))
    added = _to_compute(session, arguments) if arguments.stale else []
    command = profile.with_gpus(arguments.command, arguments.gpus) if arguments.choose_profile else arguments.command
    output.flush()
    if live.is_terminal() and not arguments.report:
        return live.run([*command, *added])
    return locks.exec_command([*command, *added])


def _to_compute(session: Session, arguments: Arguments) -> list[str]:
    """List the files to compute although they are there; say so if there is nothing to compute."""
    chosen = [item for item, _ in stale_of(session, arguments)]
    cells = cells_of(session, arguments)
    if arguments.force:
        chosen += cells
    elif cells and not chosen and all((session.root / cell.path).exists() for cell in cells):
        done = "the cell is" if arguments.cell is not None else f"all {len(cells)} cells are"
        output.say(
            f"{done} recorded; to compute {'it' if len(cells) == 1 else 'them'} yourself: {arguments.told} FORCE=1"
        )
    return paths_of(session, chosen)
