"""Results opened again, their page, and the server that gives it out."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import shutil
import socket
import threading
from urllib.parse import urlsplit

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.registration.opened import open_result
from anamorph.report.viewer.page import NIIVUE, niivue_hash, script_hash
from anamorph.report.viewer.volumes import shown_grid
from anamorph.workflows.view.panes import MOST_RESULTS, make_pages
from anamorph.workflows.view.server import Pages, Viewer
from viewed import write_results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield write_results(tmp_path_factory.mktemp("made"), patch)


@pytest.fixture(scope="module")
def pages(made) -> Pages:
    return make_pages([open_result(folder) for folder in made])


def content_of(pages: Pages) -> list[dict]:
    return json.loads(re.search(r'id="viewer-content">(.*?)</script>', pages.page, re.DOTALL)[1])


def test_a_result_is_read_back_with_all_that_belongs_to_it(made):
    opened = open_result(made[0])
    report = opened.report
    assert report.fixed.name == "fixed.nii.gz"
    assert report.fixed_labels is not None
    assert report.label_names[6] == "liver"
    assert len(report.fixed_points) == len(report.moving_points) > 3
    assert report.warped.grid.matches(report.fixed.grid)
    centre = report.fixed.grid.centre_mm
    told = opened.record["direction_check"]["maps_to_moving_ras_mm"]
    assert report.fixed_to_moving.map_world(centre[None])[0] == pytest.approx(told, abs=1e-3)


def test_the_page_has_every_voxel_and_both_results_in_one_scale(pages, made):
    first, second = content_of(pages)
    fixed = nibabel.load(made[0].parent / "scans" / "fixed.nii.gz")
    assert first["grid"]["shown"] == list(fixed.shape) == first["grid"]["shape"]
    shown = nibabel.Nifti1Image.from_bytes(pages.files[first["volumes"]["fixed"]])
    assert np.allclose(shown.affine, fixed.affine, atol=1e-5)
    assert np.asarray(shown.dataobj).dtype == np.uint8
    assert first["volumes"]["fixed"] == second["volumes"]["fixed"]
    assert first["volumes"]["warped"] != second["volumes"]["warped"]
    assert set(first["volumes"].values()) | set(second["volumes"].values()) | {NIIVUE.stem} == set(pages.files)
    assert [one["colours"] for one in first["maps"]] == [one["colours"] for one in second["maps"]]
    assert [one["ticks"] for one in first["maps"]] == [one["ticks"] for one in second["maps"]]


def test_beneath_each_result_are_its_numbers_and_what_sets_it_apart(pages, made):
    first, second = content_of(pages)
    assert first["title"] == str(made[0])
    assert first["settings"] == [["gain", "1"]]
    assert second["settings"] == [["gain", "0.5"]]
    record = json.loads((made[1] / "result.json").read_text())["metrics"]
    rows = {name: (before, after) for name, before, after in second["numbers"]}
    assert rows["Dice"] == tuple(f"{record[state]['mean_dice']:.3f}" for state in ("before", "after"))
    assert rows["Landmark error, mm"][0] == f"{record['before']['mean_tre_mm']:.2f}"


def test_scans_that_moved_are_named_and_others_are_refused(made, tmp_path):
    away = shutil.copytree(made[0], tmp_path / "away")
    scans = made[0].parent / "scans"
    with pytest.raises(UserError, match=r"fixed scan is no longer at .*; say where it is by --fixed FILE"):
        open_result(away)
    given = {"fixed": str(scans / "fixed.nii.gz"), "moving": str(scans / "moving.nii.gz")}
    assert open_result(away, given).report.fixed_labels is None  # which moved, too, and is not needed
    with pytest.raises(UserError, match=r"is not the moving scan that .*; say where that is by --moving"):
        open_result(away, given | {"moving": given["fixed"]})


def test_folders_without_a_result_are_refused_in_one_line(made, tmp_path):
    with pytest.raises(UserError, match=r"holds no result\.json"):
        open_result(tmp_path)
    failed = shutil.copytree(made[0], tmp_path / "failed")
    record = json.loads((failed / "result.json").read_text())
    (failed / "result.json").write_text(json.dumps(record | {"status": "FAILED"}))
    with pytest.raises(UserError, match="the run failed"):
        open_result(failed)
    (failed / "result.json").write_text('{"status": "PASS"}')
    with pytest.raises(UserError, match="no record of a result"):
        open_result(failed)


def test_results_of_other_pairs_and_too_many_are_refused(made):
    one = open_result(made[0])
    with pytest.raises(UserError, match=f"at most {MOST_RESULTS}"):
        make_pages([one] * (MOST_RESULTS + 1))
    other = open_result(made[1])
    object.__setattr__(other.report, "moving", other.report.fixed)
    with pytest.raises(UserError, match="is of other scans"):
        make_pages([one, other])


@pytest.fixture
def viewer(pages):
    viewer = Viewer(pages)
    thread = threading.Thread(target=viewer.serve)
    thread.start()
    yield viewer
    viewer.stop()
    thread.join()


def ask(url: str, path: str | None = None, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request(method, parts.path if path is None else path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def test_the_server_gives_out_what_was_prepared_and_nothing_else(viewer, pages):
    status, page, headers = ask(viewer.url)
    assert status == 200
    assert page.decode() == pages.page
    assert headers["Cache-Control"] == "no-store"
    base = urlsplit(viewer.url).path
    assert len(base) > 30
    assert ask(viewer.url, f"{base}volumes/0/fixed")[1] == pages.files["volumes/0/fixed"]
    for path in (
        "/",
        "/index.html",
        f"{base}../etc/passwd",
        f"{base}volumes/0/",
        base[:-2] + ("y/" if base[-2] == "x" else "x/"),  # another secret than the server's own
        f"{base}result.json",
    ):
        assert ask(viewer.url, path)[0] == 404
    for method in ("POST", "PUT", "DELETE"):
        assert ask(viewer.url, method=method)[0] == 501


def test_the_server_answers_to_its_own_name_alone(viewer):
    port = urlsplit(viewer.url).port
    for host in (f"evil.example:{port}", f"localhost:{port}", "127.0.0.1"):
        assert ask(viewer.url, Host=host)[0] == 421
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(f"GET {urlsplit(viewer.url).path} HTTP/1.0\r\n\r\n".encode())
        assert b" 421 " in plain.recv(100)


def test_a_port_that_is_taken_is_named(viewer, pages):
    with pytest.raises(UserError, match="choose another --port"):
        Viewer(pages, urlsplit(viewer.url).port)


def test_the_command_prints_the_address_and_ends_when_interrupted(made, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Viewer, "serve", interrupt)
    done = CliRunner().invoke(app, ["view", str(made[0]), "--no-browser"])
    assert done.exit_code == 0
    assert re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", done.stderr)
    assert CliRunner().invoke(app, ["view", str(made[0].parent), "--no-browser"]).exit_code == 2


def test_a_coarser_grid_covers_the_same_field_of_view():
    affine = np.array([[-0.5, 0.1, 0, 10], [0.1, 0.5, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1.0]])
    grid = Grid((200, 180, 30), affine)
    coarse = shown_grid(grid, 100_000)
    assert 60_000 < np.prod(coarse.shape) <= 100_000
    assert coarse.spacing_mm[2] == pytest.approx(3.0)  # thick slices stay
    assert coarse.centre_mm == pytest.approx(grid.centre_mm)
    assert np.all(np.array(coarse.shape) * coarse.spacing_mm >= np.array(grid.shape) * grid.spacing_mm - 1e-3)
    assert shown_grid(grid, grid.shape[0] * grid.shape[1] * grid.shape[2]) is grid


def test_niivue_is_the_file_that_npm_has():
    assert niivue_hash() == script_hash(gzip.decompress(NIIVUE.read_bytes()))
    assert b'"0.69.0"' in gzip.decompress(NIIVUE.read_bytes())
    assert NIIVUE.with_name("niivue-licences.txt").read_text().startswith("NiiVue 0.69.0")
