"""A model is brought whole and sound into the user's folder, or not at all: from folders, archives, a local server."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.image import bounds
from anamorph.networks import model_folders, model_sources
from anamorph.networks.model_folders import find_model, get_model
from tiny_models import save_tiny

pytest.importorskip("pooch", reason="needs the extra download")


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    monkeypatch.setenv("ANAMORPH_MODELS", str(folder))
    monkeypatch.setattr(model_folders, "installed", lambda group: {})
    return folder


@pytest.fixture
def model(tmp_path):
    """A model with a guide, and the texts of its licence."""
    folder = tmp_path / "given" / "elbow"
    save_tiny(folder)
    save_tiny(folder / "guide")
    (folder / "LICENSE.txt").write_text("do as you like")
    (folder / ".DS_Store").write_bytes(b"clutter")
    return folder


BOTH = ("model.json", "weights.safetensors")
PARTS = {"LICENSE.txt", "source.json", *BOTH, *(f"guide/{name}" for name in BOTH)}


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def packed(folder: Path, kind: str) -> Path:
    return Path(shutil.make_archive(str(folder.parent / "packed"), kind, folder.parent, folder.name))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(own: Path, source: object, message: str, **options: object) -> None:
    with pytest.raises(UserError, match=message) as caught:
        get_model(str(source), **options)
    assert "\n" not in str(caught.value)
    assert not own.exists() or not [*own.iterdir()], "nothing is left behind"


@pytest.mark.parametrize("kind", ["folder", "run", "zip", "gztar"])
def test_folders_and_archives_become_models_with_a_name(own, model, kind):
    if kind == "run":
        model = model.rename(model.parent / "model")
    source = {"folder": model, "run": model.parent}.get(kind) or packed(model, kind)
    made = get_model(str(source), **({"name": "elbow"} if kind == "run" else {}))
    assert made == find_model("elbow") == own / "elbow"
    assert files_of(made) == PARTS
    assert (made / "weights.safetensors").read_bytes() == (model / "weights.safetensors").read_bytes()
    assert (find_model("elbow/guide") / "model.json").read_bytes() == (model / "guide" / "model.json").read_bytes()
    assert json.loads((made / "source.json").read_text())["source"] == str(source)
    assert [entry.name for entry in own.iterdir()] == ["elbow"]


def test_an_archive_of_the_files_without_their_folder(own, model):
    path = Path(shutil.make_archive(str(model.parent / "packed"), "gztar", model))
    assert files_of(get_model(str(path), "mine")) == PARTS
    again = get_model(str(own / "mine"), "copy")
    assert files_of(again) == PARTS
    assert json.loads((again / "source.json").read_text())["source"] == str(own / "mine")


def test_names_that_are_taken_or_are_none(own, model, monkeypatch):
    get_model(str(model))
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(card | {"summary": "newer"}))
    with pytest.raises(UserError, match="elbow is there already; give this model another name with --name"):
        get_model(str(model))
    assert "newer" not in (own / "elbow" / "model.json").read_text()
    get_model(str(model), overwrite=True)
    assert "newer" in (own / "elbow" / "model.json").read_text()
    assert files_of(get_model(str(model), "second")) == PARTS
    monkeypatch.setattr(model_folders, "SHIPPED", model.parent)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="anamorph brings a model 'elbow' already"):
            get_model(str(model), overwrite=overwrite)
    for name in ("../out", "/out", ".hidden", "a/b", "", "a" * 200, "a\n"):
        with pytest.raises(UserError, match="cannot be the name of a model folder"):
            get_model(str(model), name)
    (model / "model.json").write_text(json.dumps(card | {"name": "../../elbow"}))
    with pytest.raises(UserError, match=r"'\.\./\.\./elbow' cannot be the name of a model folder; give --name"):
        get_model(str(model))
    assert {entry.name for entry in own.iterdir()} == {"elbow", "second"}


def test_damage_and_what_is_no_model_is_refused(own, model, tmp_path):
    refused(own, tmp_path / "nowhere", "nowhere: no such file; check the path")
    refused(own, model.parent, f"there is no model '{model.parent}'")
    (tmp_path / "text").write_text("no archive")
    refused(own, tmp_path / "text", "text: neither .zip nor .tar.gz")
    for kind in ("zip", "gztar"):
        path = packed(model, kind)
        content = bytearray(path.read_bytes())
        path.write_bytes(content[: len(content) // 2])
        refused(own, path, "damaged archive|neither .zip nor")
        middle = len(content) // 3
        content[middle : middle + 40] = bytes(40)
        path.write_bytes(content)
        refused(own, path, "damaged archive|is not the file its card describes")
    (model / "guide" / "weights.safetensors").write_bytes(b"other")
    refused(own, model, f"^{model}/guide/weights.safetensors: is not the file its card describes")
    refused(own, packed(model, "zip"), "packed.zip/guide/weights.safetensors: is not the file its card describes")
    (model / "guide" / "weights.safetensors").unlink()
    refused(own, packed(model, "gztar"), "packed.tar.gz/guide: has a card but no weights")
    (model / "model.json").write_text('{"format": 1}')
    refused(own, packed(model, "gztar"), "model.json: is no model card")
    (model / "model.json").unlink()
    (model / "guide" / "model.json").unlink()
    refused(own, packed(model, "zip"), "packed.zip: holds no model.json")


def test_what_is_no_part_of_a_model_is_refused(own, model):
    (model / "run.py").write_text("print('never run')")
    for source in (model, packed(model, "zip"), packed(model, "gztar")):
        refused(own, source, "run.py', which is no part of a model; take the model folder alone")
    (model / "run.py").unlink()
    (model / "README").write_bytes(bytes(model_sources.LARGEST_TEXT_BYTES + 1))
    for source in (model, packed(model, "zip"), packed(model, "gztar")):
        refused(own, source, "README' is too large for a file of its name")


def test_an_archive_of_two_models(own, model):
    save_tiny(model.parent / "knee")
    path = Path(shutil.make_archive(str(model.parents[1] / "both"), "zip", model.parent))
    refused(own, path, "both.zip: holds several models; pack the folder of one")


def zip_of(path: Path, model: Path) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(path, "w")
    for name in BOTH:
        archive.write(model / name, name)
    return archive


@pytest.mark.parametrize(
    "name",
    ["../model.json", "a/../../model.json", "/tmp/model.json", "..\\model.json", "C:\\model.json", "C:model.json"],
)
def test_paths_that_lead_out_are_refused(own, model, tmp_path, name):
    with zip_of(tmp_path / "slip.zip", model) as archive:
        archive.writestr(name, "out")
    with tarfile.open(tmp_path / "slip.tar.gz", "w:gz") as archive:
        archive.add(model, "elbow")
        member = tarfile.TarInfo(name)
        member.size = 3
        archive.addfile(member, io.BytesIO(b"out"))
    before = files_of(tmp_path)
    for path in ("slip.zip", "slip.tar.gz"):
        refused(own, tmp_path / path, f"{path}: holds the path '.*', which leads out of its folder")
    assert files_of(tmp_path) == before


def test_links_devices_and_traps_are_refused(own, model, tmp_path, monkeypatch):
    link = zipfile.ZipInfo("LICENSE")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zip_of(tmp_path / "link.zip", model) as archive:
        archive.writestr(link, "/etc/passwd")
    refused(own, tmp_path / "link.zip", "link.zip: holds 'LICENSE', which is no file")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE):
        with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as archive:
            member = tarfile.TarInfo("LICENSE")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        refused(own, tmp_path / "link.tar.gz", "which is no file|damaged archive")
    with zip_of(tmp_path / "many.zip", model) as archive:
        for n in range(model_sources.MOST_FILES):
            archive.writestr(f"{n}/README", "")
    refused(own, tmp_path / "many.zip", "holds more than 100 files")
    monkeypatch.setattr(bounds, "HARMLESS_BYTES", 1000)
    monkeypatch.setattr(bounds, "HARMLESS_VALUES", 1000)
    shutil.rmtree(model / "guide")
    (model / "weights.safetensors").write_bytes(bytes(1 << 24))
    for kind in ("zip", "gztar"):
        refused(own, packed(model, kind), "would unpack to .* is it genuine")


@pytest.mark.posix
def test_links_and_pipes_in_folders_are_refused(own, model, tmp_path):
    (model / "NOTICE").symlink_to("/etc/hostname")
    refused(own, model, "holds 'NOTICE', a link or a device")
    (model / "NOTICE").unlink()
    os.mkfifo(model / "NOTICE")
    refused(own, model, "holds 'NOTICE', a link or a device")
    os.mkfifo(tmp_path / "pipe")
    refused(own, tmp_path / "pipe", "a pipe, socket or device")


def test_the_hash_of_a_file_is_looked_at(own, model):
    path = packed(model, "zip")
    refused(own, path, "is no SHA-256; give its 64 hexadecimal digits", sha256="abc")
    refused(own, path, f"packed.zip: its SHA-256 is not {'0' * 64}", sha256="0" * 64)
    refused(own, model, "--sha256 is the hash of an archive", sha256="0" * 64)
    assert get_model(str(path), sha256="SHA256:" + sha256(path).upper()) == own / "elbow"


@pytest.fixture
def server(model):
    """A server on this machine, and what it answers at each path."""
    content = packed(model, "zip").read_bytes()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", "/elbow.zip")
                self.end_headers()
                return
            if self.path.startswith("/gone"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(10**12 if "huge" in self.path else len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if "cut" in self.path else content)

        def log_message(self, *_):
            pass

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", hashlib.sha256(content).hexdigest(), asked
        running.shutdown()


def test_a_url_is_loaded_and_keeps_no_password(own, server):
    address, right, _ = server
    steps = []
    url = address.replace("//", "//me:secret@") + "/elbow.zip?token=secret"
    made = get_model(url, sha256=right, progress=lambda stage, fraction: steps.append((stage, fraction)))
    assert files_of(made) == PARTS
    assert json.loads((made / "source.json").read_text())["source"] == address + "/elbow.zip"
    assert "secret" not in (made / "source.json").read_text()
    assert steps[-1] == ("loading", 1.0)
    assert get_model(address + "/moved", "second", right) == own / "second"
    listed = " ".join(CliRunner().invoke(app, ["models", "list"]).output.split())
    assert address[:15] in listed


def test_a_url_that_gives_something_else_leaves_nothing(own, server):
    address, right, asked = server
    refused(own, address + "/elbow.zip", "a URL needs --sha256")
    refused(own, "ftp://127.0.0.1/elbow.zip", "neither http nor https")
    refused(own, "file:///etc/passwd", "neither http nor https")
    assert asked == []
    refused(own, address + "/elbow.zip", f"elbow.zip: its SHA-256 is not {'1' * 64}", sha256="1" * 64)
    refused(own, address + "/gone.zip", r"gone.zip: cannot be loaded \(404 Not Found\); check", sha256=right)
    refused(own, address + "/cut.zip", r"cut.zip: (cannot be loaded \(Incomplete|its SHA-256 is not)", sha256=right)
    refused(own, address + "/huge.zip", "/huge.zip: larger than 8 GB", sha256=right)
    refused(own, "http://127.0.0.1:9/elbow.zip", r"elbow.zip: cannot be loaded \(connection refused\)", sha256=right)
    refused(own, "http://[/elbow.zip", "cannot be loaded", sha256=right)
    asked.clear()
    get_model(address + "/elbow.zip", sha256=right)
    with pytest.raises(UserError, match="is there already"):
        get_model(address + "/elbow.zip", "elbow", right)
    assert asked == ["/elbow.zip"], "a name that is taken is said before anything is loaded"


def test_an_interrupt_leaves_nothing(own, server, monkeypatch):
    address, right, _ = server

    def interrupt(stage, fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_model(address + "/elbow.zip", sha256=right, progress=interrupt)
    assert not own.exists()


def test_pooch_is_named_where_it_is_missing(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    refused(own, "http://127.0.0.1/x.zip", r"run: pip install 'anamorph\[download\]'", sha256="0" * 64)


def test_the_command(own, model, server):
    address, right, _ = server
    done = CliRunner().invoke(app, ["models", "get", address + "/elbow.zip", "--sha256", right])
    assert done.exit_code == 0
    assert "elbow: symmetric, licence not stated, not for diagnosis" in done.stdout
    assert "Downloading" not in done.stderr
    assert "sound" in CliRunner().invoke(app, ["models", "check", "elbow"]).output
    wrong = CliRunner().invoke(app, ["models", "get", address + "/gone", "--sha256", right, "--name", "new"])
    assert wrong.exit_code == 2
    assert wrong.stderr.splitlines()[-1].startswith("error: http://127.0.0.1")
    again = CliRunner().invoke(app, ["models", "get", str(model), "--overwrite", "-q"])
    assert again.exit_code == 0
    assert again.output == ""
