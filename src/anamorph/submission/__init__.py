"""A submission to Learn2Reg: the fields of a pair list in an archive, checked by reading it back."""

from anamorph.submission.formats import ArchiveFormat, archive_format
from anamorph.submission.run import PairRun, RunSettings, register_pairs

__all__ = ["ArchiveFormat", "PairRun", "RunSettings", "archive_format", "register_pairs"]
