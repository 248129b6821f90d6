"""A submission to Learn2Reg: the fields of a pair list in an archive, checked by reading it back."""
