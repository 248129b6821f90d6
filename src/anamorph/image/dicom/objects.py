"""What a DICOM object is in words, when it is no scan, and what to do with it."""

from __future__ import annotations

from pathlib import Path

from anamorph.errors import UserError

DICOMDIR = "1.2.840.10008.1.3.10"
_SOP = "1.2.840.10008.5.1.4.1.1."
_LABELS = "convert it to a label map in NIfTI (3D Slicer, {tools}) and name that"
_SCAN = "name the series of the scan itself"
_PICTURE = "print or convert it, and " + _SCAN

# Prefix of the SOP class, what it is, what to do; the longest prefix counts.
_OBJECTS = {
    _SOP + "481.3": ("an RT structure set (contours)", _LABELS.format(tools="dcmrtstruct2nii, plastimatch")),
    _SOP + "66.4": ("a DICOM segmentation", _LABELS.format(tools="dcmqi, highdicom")),
    _SOP + "66.7": ("a DICOM segmentation (label map)", _LABELS.format(tools="dcmqi, highdicom")),
    _SOP + "66.5": ("a DICOM surface segmentation", _LABELS.format(tools="dcmqi")),
    _SOP + "66.1": (
        "a DICOM registration (a transform)",
        "convert it to an ITK transform (3D Slicer) and give it as --init",
    ),
    _SOP + "66.3": (
        "a deformable DICOM registration (a transform)",
        "convert it to an ITK transform (3D Slicer) and give it as --init",
    ),
    _SOP + "66.2": ("DICOM fiducials (points)", "convert them to a table of points"),
    _SOP + "66.6": ("DICOM tractography", _SCAN),
    _SOP + "66": ("raw data of a scanner", _SCAN),
    _SOP + "67": ("a mapping of real-world values", _SCAN),
    _SOP + "481.5": ("an RT plan", _SCAN),
    _SOP + "481.8": ("an RT ion plan", _SCAN),
    _SOP + "481": ("a record of radiotherapy", _SCAN),
    _SOP + "88.59": ("a key object selection", _SCAN),
    _SOP + "88": ("a structured report", _SCAN),
    _SOP + "11": ("a presentation state (how another image is shown)", _SCAN),
    _SOP + "9": ("a waveform (an ECG, for example)", _SCAN),
    _SOP + "104.1": ("an encapsulated PDF", _PICTURE),
    _SOP + "104": ("an encapsulated document", _PICTURE),
    _SOP + "4.2": ("MR spectroscopy", _SCAN),
    _SOP + "77.1.1.1": ("a video", _SCAN),
    _SOP + "77.1.2.1": ("a video", _SCAN),
    _SOP + "77.1.4.1": ("a video", _SCAN),
    DICOMDIR: ("a DICOMDIR (the index of a disc)", "name the folder that holds the slices"),
}
COLOUR = "a colour image"
# RT images and doses, beside the plans and records of radiotherapy.
_IMAGES = (_SOP + "481.1", _SOP + "481.2")
WITHOUT_PIXELS = "without pixel data"


def object_of(sop_class: str) -> tuple[str, str] | None:
    """What an object of a SOP class is and what to do with it; None for images and for classes not known."""
    if sop_class in _IMAGES:
        return None
    parts = sop_class.split(".")
    for n in range(len(parts), 0, -1):
        if (found := _OBJECTS.get(".".join(parts[:n]))) is not None:
            return found
    return None


def unknown_object(path: Path, sop_class: str) -> tuple[str, str]:
    """What to say of an object without voxels whose class has no entry of its own.

    Raises:
        UserError: its class is an image's, so that the file has been cut short.
    """
    from pydicom.uid import UID

    name = UID(sop_class).name.removesuffix(" Storage") if sop_class else ""
    if name.endswith("Image"):
        raise UserError(f"{path}: an image ({name}) {WITHOUT_PIXELS}; copy or export it again")
    return f"{name or 'a DICOM object'} {WITHOUT_PIXELS}", _SCAN
