"""Commands as interfaces of nipype, their typed inputs made from the commands' own definitions.

``Register``, ``Apply``, ``Convert`` and ``Bids`` are nodes of workflows like those of FSL or ANTs::

    from anamorph.cli.nipype import Register

    Register(fixed="fixed.nii.gz", moving="moving.nii.gz", out="result").run().outputs.warped

They run the program of the Python that they are imported by. https://nipype.readthedocs.io
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from anamorph.cli.definition import Parameter, command_named, parameters_of
from anamorph.registration import folder

try:
    from nipype.interfaces.base import (
        CommandLine,
        CommandLineInputSpec,
        File,
        TraitedSpec,
        traits,
    )
except ImportError as error:
    raise ImportError("these interfaces need nipype: pip install 'anamorph[nipype]'") from error

__all__ = ["Apply", "Bids", "Convert", "Register"]


def _trait(parameter: Parameter, place: int) -> Any:
    """The typed input of a parameter, with how it stands on the command line."""
    about = {"desc": parameter.text, "mandatory": parameter.required}
    if parameter.flag is None:
        about |= {"argstr": "%s", "position": place}
    elif parameter.kind == "flag":
        about |= {"argstr": parameter.flag}
    else:
        number = {"whole": "%d", "number": "%g"}.get(parameter.kind, "%s")
        about |= {"argstr": f"{parameter.flag} {number}{'...' if parameter.several else ''}"}
    # A file may be a DICOM folder, or a folder with the series that is meant, so that it is not looked for here.
    plain = {"file": File, "text": traits.Str, "whole": traits.Int, "number": traits.Float, "flag": traits.Bool}
    if parameter.choices and not parameter.several:
        return traits.Enum(*parameter.choices, **about)
    kind = plain[parameter.kind]
    return traits.List(kind(), **about) if parameter.several else kind(**about)


def _inputs(command: str) -> Any:
    """The input specification of a command."""
    parameters = parameters_of(command_named(command))
    members: dict[str, Any] = {one.name: _trait(one, place) for place, one in enumerate(parameters)}
    return type(f"{command.capitalize()}InputSpec", (CommandLineInputSpec,), members | {"__module__": __name__})


# nodes are pickled, and their classes found by these names
RegisterInputSpec, ApplyInputSpec = _inputs("register"), _inputs("apply")
ConvertInputSpec, BidsInputSpec = _inputs("convert"), _inputs("bids")


class _Anamorph(CommandLine):  # type: ignore[misc]
    """A command of anamorph."""

    def _result(self) -> Path:
        """What the option ``--out`` or the argument OUT names, seen from where the command runs."""
        return Path(self.inputs.out if Path(self.inputs.out).is_absolute() else Path.cwd() / self.inputs.out)


class _RegisterOutputs(TraitedSpec):  # type: ignore[misc]
    out = traits.Directory(exists=True, desc="folder of the result")
    fixed_to_moving = File(exists=True, desc=folder.DESCRIPTIONS[folder.FIXED_TO_MOVING])
    moving_to_fixed = File(exists=True, desc=folder.DESCRIPTIONS[folder.MOVING_TO_FIXED])
    fixed_to_moving_composite = File(desc=folder.DESCRIPTIONS[folder.FIXED_TO_MOVING_COMPOSITE])
    moving_to_fixed_composite = File(desc=folder.DESCRIPTIONS[folder.MOVING_TO_FIXED_COMPOSITE])
    warped = File(exists=True, desc=folder.DESCRIPTIONS[folder.WARPED])
    warped_labels = File(desc=folder.DESCRIPTIONS[folder.WARPED_LABELS])
    jacobian = File(exists=True, desc=folder.DESCRIPTIONS[folder.JACOBIAN])
    result = File(exists=True, desc=folder.DESCRIPTIONS[folder.RESULT])
    report = File(desc=folder.DESCRIPTIONS[folder.REPORT])


class Register(_Anamorph):
    """``anamorph register``: both transforms, the warped scan, the numbers and a report."""

    _cmd = f"{sys.executable} -m anamorph register"
    input_spec = RegisterInputSpec
    output_spec = _RegisterOutputs

    def _list_outputs(self) -> dict[str, str]:
        place = self._result()
        names = {
            "fixed_to_moving": folder.FIXED_TO_MOVING,
            "moving_to_fixed": folder.MOVING_TO_FIXED,
            "fixed_to_moving_composite": folder.FIXED_TO_MOVING_COMPOSITE,
            "moving_to_fixed_composite": folder.MOVING_TO_FIXED_COMPOSITE,
            "warped": folder.WARPED,
            "warped_labels": folder.WARPED_LABELS,
            "jacobian": folder.JACOBIAN,
            "result": folder.RESULT,
            "report": folder.REPORT,
        }
        found = {key: str(place / name) for key, name in names.items() if (place / name).is_file()}
        return found | {"out": str(place)}


class _OneOutput(TraitedSpec):  # type: ignore[misc]
    out = traits.Str(desc="file or folder that was written")


class _Written(_Anamorph):
    output_spec = _OneOutput

    def _list_outputs(self) -> dict[str, str]:
        return {"out": str(self._result())}


class Apply(_Written):
    """``anamorph apply``: images and labels pulled, points, meshes and streamlines mapped."""

    _cmd = f"{sys.executable} -m anamorph apply"
    input_spec = ApplyInputSpec


class Convert(_Written):
    """``anamorph convert``: a transform in the format of another program."""

    _cmd = f"{sys.executable} -m anamorph convert"
    input_spec = ConvertInputSpec


class Bids(_Written):
    """``anamorph bids``: a data set of BIDS registered."""

    _cmd = f"{sys.executable} -m anamorph bids"
    input_spec = BidsInputSpec
