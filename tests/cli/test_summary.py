"""What a registration prints at its end: the verdict in words, the key numbers, where the report is, in 60 columns."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from anamorph.cli.console import make_table, progress_bar, show, show_lines
from anamorph.cli.main import app

WIDTH = 60


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setattr("anamorph.cli.console.line_width", lambda: WIDTH)


def demo(folder, *options):
    arguments = ["demo", "-o", str(folder), "--size", "40", "--method", "affine", *options]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """The summary of a demo in 60 columns, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anamorph.cli.console.line_width", lambda: WIDTH)
        patch.chdir(tmp_path_factory.mktemp("demo"))
        return demo("out").stdout


def test_no_line_is_longer_than_the_terminal(summary):
    assert max(map(len, summary.splitlines())) <= WIDTH


def test_the_verdict_in_words_the_key_numbers_and_the_report_come_together(summary):
    told = re.search(
        r"^(PASS|WARN|FAIL): (no|some|clear) signs of failure; accuracy [^<]*?"
        r"^  Dice +0\.\d{3} -> 0\.\d{3}\n^  HD95 +[\d.]+ -> [\d.]+ mm\n^  Landmark error +14\.\d+ -> [\d.]+ mm\n"
        r"^report: out/report\.html$",
        summary,
        re.MULTILINE,
    )
    assert told is not None


def test_the_demo_tells_its_true_error(summary):
    before, after = re.search(r"^ mean +([\d.]+) mm +([\d.]+) mm", summary, re.MULTILINE).groups()
    assert float(before) > 12 > float(after) > 0


def test_files_and_pipes_get_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    verdict = next(line for line in demo(tmp_path / "out").stdout.splitlines() if re.match("PASS|WARN|FAIL", line))
    assert "; accuracy " in verdict
    assert len(verdict) > WIDTH


@pytest.mark.usefixtures("narrow")
def test_sentences_are_set_in_and_paths_stay_whole(capsys):
    path = "report: /somewhere/" + 60 * "x" + "/report.html"
    show_lines("  " + 13 * "words " + "end", path)
    assert capsys.readouterr().out.splitlines() == [
        "  words words words words words words words words words",
        "    words words words words end",
        "report:",
        f"  {path.split()[1]}",
    ]


@pytest.mark.usefixtures("narrow")
def test_the_bar_of_a_narrow_terminal_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar(quiet=False) as progress:
        progress("a stage whose name is longer than its column of the bar", 0.5)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "a stage whose name" in drawn
    assert max(map(len, re.split(r"[\r\n]", drawn))) <= WIDTH


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("count", [2, 4, 6])
def test_tables_keep_numbers_whole_and_fit(capsys, count):
    table = make_table("a name of some length", *(f">a head {n}" for n in range(count)))
    table.add_row("extreme_volume_percent", *["0.93"] * count)
    show(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.count("0.93") for line in lines) == count
