from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anamorph.cli.logs import say


def view(
    results: Annotated[list[Path], typer.Argument(metavar="OUT...", help="Folders of results of the same pair.")],
    fixed: Annotated[
        Path | None, typer.Option("--fixed", help="The fixed scan, if it is no longer where it was.")
    ] = None,
    moving: Annotated[
        Path | None, typer.Option("--moving", help="The moving scan, if it is no longer where it was.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; any free one by default.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
) -> None:
    """Look through results in a browser at full resolution, several of a pair side by side; Ctrl-C ends it.

    The page comes from this machine alone (127.0.0.1), under an address that cannot be guessed.
    """
    import webbrowser

    from anamorph.registration.opened import open_result
    from anamorph.workflows.view.panes import make_pages
    from anamorph.workflows.view.server import Viewer

    given = {role: str(path) for role, path in (("fixed", fixed), ("moving", moving)) if path is not None}
    opened = []
    for folder in results:
        say(f"reading {folder}")
        opened.append(open_result(folder, given))
    say("preparing the volumes")
    viewer = Viewer(make_pages(opened), port)
    say(f"{viewer.url} (Ctrl-C ends it)")
    if not no_browser:
        webbrowser.open(viewer.url)
    try:
        viewer.serve()
    except KeyboardInterrupt:
        say("ended")
