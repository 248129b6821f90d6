# Okabe and Ito's colours for the colour-blind, lightened where they would drown on a grey scan.
_COLOURS = (
    "#56b4e9",
    "#e69f00",
    "#00c48c",
    "#f0e442",
    "#ff7a45",
    "#4f8dff",
    "#e58cc0",
    "#a6e05a",
    "#c3a5ff",
    "#ffffff",
)


def label_colour(rank: int) -> str:
    """The colour of the ``rank``-th label as a CSS colour; they repeat after ten."""
    return _COLOURS[rank % len(_COLOURS)]
