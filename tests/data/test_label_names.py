"""Labels of several data sets by their names."""

from __future__ import annotations

import pytest

from anamorph.data.labels import LabelTable, shared_numbers
from anamorph.errors import UserError


def joined(*tables):
    return shared_numbers([LabelTable(f"{chr(65 + n)}.json", labels) for n, labels in enumerate(tables)])


def test_a_number_with_two_names_is_refused_in_one_line_with_a_remedy():
    with pytest.raises(UserError) as caught:
        joined({1: "liver"}, {1: "spleen", 2: "pancreas"})
    message = str(caught.value)
    assert message.startswith("label 1 is 'liver' in A.json and 'spleen' in B.json; make B.json again")
    assert "--relabel 1=3" in message
    assert "\n" not in message


def test_the_remedy_works():
    names, maps = joined({1: "liver"}, {3: "spleen", 2: "pancreas"})
    assert names == {1: "liver", 2: "pancreas", 3: "spleen"}
    assert maps == ({1: 1}, {2: 2, 3: 3})


def test_a_name_with_two_numbers_takes_the_first():
    names, maps = joined({1: "liver", 2: "left kidney"}, {1: "Left_Kidney", 2: "Liver"}, {7: "liver"})
    assert names == {1: "liver", 2: "left kidney"}
    assert maps == ({1: 1, 2: 2}, {1: 2, 2: 1}, {7: 1})


def test_numbers_count_where_nobody_names_them():
    assert joined({1: "label 1", 2: "2"}, {}, {2: "label 2", 3: "Class_3"})[1] == ({1: 1, 2: 2}, {}, {2: 2, 3: 3})
    assert joined({1: "liver", 2: "label 2"}, {1: "liver", 2: ""})[1] == ({1: 1, 2: 2},) * 2


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (({1: "liver"}, {1: "label 1"}), r"B.json does not name its label 1, .* 'liver' of A.json"),
        (({2: "label 2"}, {1: "liver"}), r"A.json does not name its label 2"),
        (({1: "kidney", 2: "Kidney"}, {1: "kidney"}), r"A.json names both label 1 and 2 'Kidney'"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(tables, message):
    with pytest.raises(UserError, match=message):
        joined(*tables)


def test_one_table_is_as_it_is():
    assert joined({1: "kidney", 2: "kidney", 3: "label 3"})[1] == ({1: 1, 2: 2, 3: 3},)
