"""A submission to Learn2Reg: the fields of a pair list in an archive, checked by reading it back."""

from anamorph.workflows.submission.formats import ArchiveFormat, archive_format
from anamorph.workflows.submission.run import Submission, make_submission

__all__ = ["ArchiveFormat", "Submission", "archive_format", "make_submission"]
