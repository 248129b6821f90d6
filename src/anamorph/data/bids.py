"""Scans of a data set in the Brain Imaging Data Structure, by participant and session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anamorph.errors import UserError
from anamorph.image.bids_names import BidsName
from anamorph.reading import read_json, understood

DESCRIPTION = "dataset_description.json"


@dataclass(frozen=True)
class BidsScan:
    """One scan.

    Args:
        path: of the file.
        name: its parts.
    """

    path: Path
    name: BidsName

    @property
    def participant(self) -> str:
        """The label after ``sub-``."""
        return self.name.entities["sub"]

    @property
    def session(self) -> str:
        """The label after ``ses-``; empty if there is none."""
        return self.name.entities.get("ses", "")


def root_of(path: Path) -> Path | None:
    """The data set that a file lies in: the nearest folder above with a description; None if there is none."""
    return next((folder for folder in path.absolute().parents if (folder / DESCRIPTION).is_file()), None)


def find_scans(
    root: Path,
    suffix: str,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    entities: Mapping[str, str] | None = None,
) -> list[BidsScan]:
    """The scans of a data set, sorted by their paths.

    Args:
        root: the folder with ``dataset_description.json``.
        suffix: such as ``T1w``.
        participants: labels with or without ``sub-``; all by default.
        sessions: labels with or without ``ses-``; all by default.
        entities: others that a name must have, such as ``{"acq": "mprage"}``.

    Raises:
        UserError: the folder is no data set of BIDS, has no such participant, session or scan.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the BIDS data set")
    with understood(root / DESCRIPTION, "no BIDS data set", f"it needs {DESCRIPTION} with Name and BIDSVersion"):
        description = read_json(root / DESCRIPTION)
    if not isinstance(description, dict) or not {"Name", "BIDSVersion"} <= description.keys():
        raise UserError(f"{root / DESCRIPTION}: without Name or BIDSVersion; complete it")
    found = []
    for path in sorted(root.glob(f"sub-*/**/sub-*_{suffix}.nii*")):
        name = BidsName.of(path)
        if name is not None and name.extension in (".nii", ".nii.gz"):
            found.append(BidsScan(path, name))
    chosen = _chosen(found, "sub", participants, "participant")
    chosen = _chosen(chosen, "ses", sessions, "session")
    for key, value in (entities or {}).items():
        chosen = [scan for scan in chosen if scan.name.entities.get(key) == value]
    if not chosen:
        asked = "".join(f"_{key}-{value}" for key, value in (entities or {}).items())
        raise UserError(f"{root}: no scan is named sub-*{asked}_{suffix}.nii.gz; --suffix names another kind")
    return chosen


def _chosen(scans: list[BidsScan], key: str, labels: Sequence[str], what: str) -> list[BidsScan]:
    wanted = [one.removeprefix(f"{key}-") for one in labels]
    there = {scan.name.entities.get(key, "") for scan in scans}
    missing = next((one for one in wanted if one not in there), None)
    if missing is not None:
        raise UserError(f"no {what} '{missing}' has such a scan; there are {', '.join(sorted(there - {''}))[:80]}")
    return [scan for scan in scans if not wanted or scan.name.entities.get(key, "") in wanted]


def session_pairs(scans: Sequence[BidsScan], reference: str | None) -> list[tuple[BidsScan, BidsScan]]:
    """Pairs of the reference session of each participant, fixed, with each other session.

    Args:
        scans: of all participants.
        reference: label of the session; the first one of each participant by default.

    Raises:
        UserError: a participant has two scans of a session, or not the reference; nobody has two sessions.
    """
    pairs = []
    by_participant: dict[str, dict[str, BidsScan]] = {}
    for scan in scans:
        sessions = by_participant.setdefault(scan.participant, {})
        if scan.session in sessions:
            raise UserError(
                f"{scan.path.name} and {sessions[scan.session].path.name} are of one session; choose with --entity, "
                "such as --entity run=1"
            )
        sessions[scan.session] = scan
    for participant, sessions in by_participant.items():
        first = min(sessions) if reference is None else reference.removeprefix("ses-")
        if len(sessions) == 1:
            continue
        if first not in sessions:
            raise UserError(f"sub-{participant} has no session '{first}'; there are {', '.join(sorted(sessions))}")
        pairs += [(sessions[first], scan) for session, scan in sorted(sessions.items()) if session != first]
    if not pairs:
        raise UserError("no participant has two sessions; name a --template to register to")
    return pairs
