"""Training of networks: one loop for all tasks, and the table of the tasks."""

from anamorph.registry import Registry

TASKS = Registry(
    "anamorph.training_tasks",
    "training",
    {
        "symmetric": "anamorph.training.tasks.symmetric:SymmetricTask",
        "segment": "anamorph.training.tasks.segment:SegmentTask",
        "segment-synthetic": "anamorph.training.tasks.segment:SyntheticTask",
        "features": "anamorph.training.tasks.features:FeatureTask",
        "pdd": "anamorph.training.tasks.pdd:PddTask",
        "lindef": "anamorph.training.tasks.lindef:LindefTask",
        "pwc": "anamorph.training.tasks.pwc:PwcTask",
        "slicreg": "anamorph.training.tasks.slicreg:SlicregTask",
        "regression": "anamorph.training.tasks.regression:RegressionTask",
    },
)
