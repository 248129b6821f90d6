"""Parts of the learned methods: network blocks, what a network expects of a scan, and the folder a model ships in."""

from anamorph.registry import Registry

NETWORKS = Registry(
    "anamorph.networks",
    "network",
    {
        "symmetric": "anamorph.networks.symmetric_network:SymmetricNetwork",
        "pdd": "anamorph.networks.pdd_network:PddNetwork",
        "pwc": "anamorph.networks.pwc_network:PwcNetwork",
        "lindef": "anamorph.networks.lindef_network:LindefNetwork",
        "segment": "anamorph.networks.symmetric_network:SegmentationNetwork",
        "features": "anamorph.networks.feature_network:FeatureNetwork",
        "slicreg": "anamorph.networks.supervoxel_network:SupervoxelNetwork",
        "regression": "anamorph.networks.supervoxel_network:CoordinateNetwork",
    },
)
"""Network classes by the kind of a model card; the arguments that make one are the architecture of the card."""
