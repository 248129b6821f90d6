"""Training of networks: one loop for all tasks, and the table of the tasks."""

from importlib import import_module

from anamorph.errors import UserError

TASKS = {
    "symmetric": "anamorph.training.tasks.symmetric:SymmetricTask",
    "segment": "anamorph.training.tasks.segment:SegmentTask",
    "pdd": "anamorph.training.tasks.pdd:PddTask",
    "lindef": "anamorph.training.tasks.lindef:LindefTask",
    "pwc": "anamorph.training.tasks.pwc:PwcTask",
    "slicreg": "anamorph.training.tasks.slicreg:SlicregTask",
    "regression": "anamorph.training.tasks.regression:RegressionTask",
}


def find_task(name: str) -> type:
    """The task class of a name.

    Raises:
        UserError: there is no such task.
    """
    if name not in TASKS:
        raise UserError(f"there is no training '{name}'; choose one of: {', '.join(TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    return getattr(import_module(module), attribute)
