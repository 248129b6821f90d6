"""How well pieces that must not deform keep their volume and stay rigid: the worst of them."""

from __future__ import annotations

from anamorph.evaluation.gates import Gate
from anamorph.evaluation.metrics.metric import Metric

VOLUME = Metric(
    name="kept_volume_percent",
    title="Change of volume of kept pieces",
    unit="%",
    better="lower",
    measure=lambda pair: max(abs(piece.after.volume_percent) for piece in pair.kept),
    needs=("kept tissue",),
    meaning="largest change of volume among the pieces that were to move rigidly or keep their volume, per cent",
    at_rest=0.0,
    group="kept",
    gates=(
        Gate(
            name="kept_volume",
            question="signs of failure",
            meaning="largest change of volume of a kept piece",
            warn=0.5,
            fail=float("inf"),
            good=lambda m, v: f"kept pieces change their volume by {v:.2g} % at most",
            bad=lambda m, v: f"a piece that was to keep its volume changes it by {v:.2g} %",
        ),
    ),
)
DEVIATION = Metric(
    name="kept_deviation_mm",
    title="Kept pieces off a rigid motion",
    unit="mm",
    better="lower",
    measure=lambda pair: max(
        (p.after.deviation_mm for p in pair.kept if p.after.deviation_mm is not None), default=None
    ),
    needs=("kept tissue",),
    meaning="largest distance in mm of a voxel of a rigid piece from the best rigid motion of that piece",
    at_rest=0.0,
    group="kept",
    gates=(
        Gate(
            name="kept_rigid",
            question="signs of failure",
            meaning="largest distance of a rigid piece from a rigid motion",
            warn=0.5,
            fail=float("inf"),
            per_voxel=True,
            good=lambda m, v: f"rigid pieces are within {v:.2g} mm of a rigid motion",
            bad=lambda m, v: f"a piece that was to be rigid is bent by {v:.2g} mm",
        ),
    ),
)
