"""One file per metric, and the table of their names in the order of reports.

A metric of this package is one more file and one line here; one of another package is an entry point:

    [project.entry-points."anamorph.metrics"]
    toy = "toy_package:TOY"
"""

from anamorph.registry import Registry

_HERE = "anamorph.evaluation.metrics"
METRICS = Registry(
    "anamorph.metrics",
    "metric",
    {
        "dice": f"{_HERE}.dice:DICE",
        "hd95_mm": f"{_HERE}.hausdorff:HD95",
        "asd_mm": f"{_HERE}.surface_distance:AVERAGE_SURFACE_DISTANCE",
        "tre_mm": f"{_HERE}.landmarks:MEAN",
        "p95_tre_mm": f"{_HERE}.landmarks:P95",
        "max_tre_mm": f"{_HERE}.landmarks:LARGEST",
        "tre_axes_mm": f"{_HERE}.landmarks:AXES",
        "outline_distance_mm": f"{_HERE}.outlines:DISTANCE",
        "sdlogj": f"{_HERE}.jacobian:SDLOGJ",
        "folding_percent": f"{_HERE}.jacobian:FOLDING",
        "non_diffeomorphic_volume_percent": f"{_HERE}.jacobian:NON_DIFFEOMORPHIC_VOLUME",
        "extreme_volume_percent": f"{_HERE}.jacobian:EXTREME_VOLUME",
        "inverse_consistency_mm_mean": f"{_HERE}.inverse_consistency:MEAN",
        "inverse_consistency_mm_p95": f"{_HERE}.inverse_consistency:P95",
        "inverse_consistency_mm_max": f"{_HERE}.inverse_consistency:LARGEST",
        "kept_volume_percent": f"{_HERE}.kept_tissue:VOLUME",
        "kept_deviation_mm": f"{_HERE}.kept_tissue:DEVIATION",
        "outside_percent": f"{_HERE}.outside:OUTSIDE",
        "similarity": f"{_HERE}.structural_similarity:SIMILARITY",
        "jacobian_min": f"{_HERE}.jacobian:SMALLEST",
        "jacobian_max": f"{_HERE}.jacobian:LARGEST",
        "jacobian_mean": f"{_HERE}.jacobian:MEAN",
        "sdlogj_learn2reg": f"{_HERE}.jacobian:SDLOGJ_LEARN2REG",
    },
)
