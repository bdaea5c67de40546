"""Verbs that publish results."""

from __future__ import annotations

from pathlib import Path

from firstorder.cli.session import Session
from firstorder.cli.verbs import ALLOW_STALE, PUBLISHED, Arguments, argument, seed_number, verb


@verb(
    "publish",
    argument("--trainings", nargs="+", default=[], metavar="TRAINING", help="publish these; default: all"),
    argument("--remote", help="name of a DVC remote; default: DVC's default remote"),
)
def publish(arguments: Arguments) -> None:
    """Track checkpoints with DVC and push them; refused if anything is stale or does not verify."""
    from firstorder.upkeep import publish as module

    session = Session.of(arguments)
    request = module.Request(session.root, session.project, arguments.trainings, arguments.remote)
    print(*module.publish(request), sep="\n")


@verb(
    "publish",
    argument("readme", help="the page with the markers, such as README.md"),
    PUBLISHED,
    ALLOW_STALE,
    argument("folders", nargs="+", help="whose results the table shows, such as . reduced"),
)
def readme(arguments: Arguments) -> None:
    """Update headline and table of the README from one or more folders, and the badges from the first one's claims."""
    from firstorder.report.text import badges
    from firstorder.report.text import readme as module

    roots = [Path(folder) for folder in arguments.folders]
    module.update(Path(arguments.readme), roots, Path(arguments.published))
    print(arguments.readme, *badges.write(roots[0]), sep="\n")


@verb(
    "publish",
    argument("--evaluation", default="reptile/omniglot-5way/1shot", help="whose checkpoint and inner steps to use"),
    argument("--seed", type=seed_number, default=0, help="of the checkpoint; default: 0"),
    argument("--sources", default="demo", help="folder of the page's sources"),
    argument("--site", default="site/demo", help="folder to write"),
)
def demo(arguments: Arguments) -> None:
    """Assemble the page that adapts a published checkpoint to what one draws, in a browser and offline."""
    from firstorder.report.site import drawing
    from firstorder.upkeep import demo as module

    session = Session.of(arguments)
    session.check_seeds([arguments.seed])
    wanted = module.Demo(
        root=session.root,
        project=session.project,
        evaluation=arguments.evaluation,
        seed=arguments.seed,
        sources=Path(arguments.sources),
        site=Path(arguments.site),
    )
    print(*module.assemble(wanted), sep="\n")
    if wanted.site.name == "demo" and (front := drawing.link_from(wanted.site.parent)):
        print(f"{front}: has a link to it")
