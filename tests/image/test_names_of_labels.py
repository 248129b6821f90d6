"""Names of labels as people and other programs write them."""

from __future__ import annotations

import pytest

from anamorph.errors import UserError
from anamorph.image.label_names import LabelNames, read_label_names

NAMES = {1: "liver", 12: "left kidney"}
COLOURS = {1: "#ff8000", 12: "#0a0b0c"}
TABLES = {
    "slicer.ctbl": "# 3D Slicer Color table file slicer.ctbl\n# 3 values\n0 Background 0 0 0 0\n"
    "1 liver 255 128 0 255\n12 left_kidney 10 11 12 255\n",
    "FreeSurferColorLUT.txt": "#No. Label Name:   R   G   B   A\n\n0   Unknown  0 0 0 0\n"
    "1   liver      255  128  0  0\n12  left_kidney  10  11  12  0\n",
    "slicer.csv": "LabelValue,Name,Color_R,Color_G,Color_B,Color_A\n"
    "1,liver,255,128,0,255\n12,left kidney,10,11,12,255\n",
    "snap.label": "################\n# ITK-SnAP Label Description File\n"
    '    0     0    0    0        0  0  0    "Clear Label"\n    1   255  128    0        1  1  1    "liver"\n'
    '   12    10   11   12     0.50  1  1    "left kidney"\n',
    "dseg.tsv": "index\tname\tcolor\n0\tbackground\t#000000\n1\tliver\t#ff8000\n12\tleft kidney\t#0a0b0c\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_programs(tmp_path, name):
    path = tmp_path / name
    path.write_text(TABLES[name], encoding="utf-8")
    assert read_label_names(path) == LabelNames(NAMES, COLOURS)


@pytest.mark.parametrize(
    "given",
    ["1=liver, 12=left kidney", NAMES, {"1": "liver", "12": "left kidney", "0": "background"}, LabelNames(NAMES)],
)
def test_names_without_colours(given):
    assert read_label_names(given) == LabelNames(NAMES)


@pytest.mark.parametrize("text", ['{"1": "liver", "12": "left kidney"}', '{"labels": %s}'])
def test_json_as_manifests_have_it(tmp_path, text):
    path = tmp_path / "names.json"
    path.write_text(text.replace("%s", '{"1": "liver", "12": "left kidney"}'))
    assert read_label_names(path) == LabelNames(NAMES)


def test_a_column_of_colours_may_be_missing(tmp_path):
    path = tmp_path / "dseg.tsv"
    path.write_text("index\tname\n1\tliver\n12\tleft kidney\n")
    assert read_label_names(path) == LabelNames(NAMES)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("names.txt", "liver and spleen\n", "not one line is understood"),
        ("dseg.tsv", "value\tname\n1\tliver\n", "no labelvalue"),
        ("dseg.tsv", "index\tname\none\tliver\n", "no names of labels"),
        ("names.json", "[1, 2]", "no names of labels"),
        ("names.txt", b"\xff\xfe\x00", "no names of labels"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=said) as caught:
        read_label_names(path)
    assert "give 1=liver,2=spleen, or a table" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["liver", "1", "=liver", "0=liver", "1=", "missing.ctbl"])
def test_what_names_no_label_is_told(text):
    with pytest.raises(UserError, match="--label-names wants 1=liver,2=spleen, not"):
        read_label_names(text)
