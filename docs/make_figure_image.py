"""The picture of docs/how-to/in-a-notebook.md: the figure of a result of two synthetic abdomens.

Usage: python docs/make_figure_image.py
"""

from __future__ import annotations

from make_images import TARGET

import anamorph

PICTURE = TARGET.with_name("figure.png")


def main() -> None:
    """Register two phantoms and draw the figure of the result."""
    pair = anamorph.make_pair((152, 120, 136), seed=3)
    labels = {"fixed_labels": pair.fixed_labels, "moving_labels": pair.moving_labels}
    anamorph.register(pair.fixed, pair.moving, **labels).plot().savefig(PICTURE, dpi=160)


if __name__ == "__main__":
    main()
