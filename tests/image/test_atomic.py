from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anamorph.errors import RegistrationFailure, UserError
from anamorph.image.atomic import atomic_directory, atomic_path, write_text


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_path_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "warped.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.endswith("warped.nii.gz")
        temporary.write_bytes(b"voxels")
        assert not target.exists()
    assert target.read_bytes() == b"voxels"
    assert names(target.parent) == ["warped.nii.gz"]


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit])
def test_path_keeps_the_old_file_when_interrupted(tmp_path: Path, exception: type[BaseException]) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(exception), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise exception
    assert target.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


def test_path_replaces_an_existing_file(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_path_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "result.json"):
        pass
    assert names(tmp_path) == []


def test_path_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"), atomic_path(tmp_path):
        pass


@pytest.mark.parametrize("writer", [atomic_path, atomic_directory])
def test_a_parent_that_is_a_file_is_the_users_mistake(tmp_path: Path, writer) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with (
        pytest.raises(UserError, match=r"cannot write .*notes\.txt") as caught,
        writer(tmp_path / "notes.txt" / "out"),
    ):
        pass
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("writer", [atomic_path, atomic_directory])
def test_a_read_only_parent_is_the_users_mistake(tmp_path: Path, writer) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="permission denied"), writer(tmp_path / "out"):
            pass
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("writer", [atomic_path, atomic_directory])
def test_a_full_disk_is_a_failure_and_leaves_nothing(tmp_path: Path, writer) -> None:
    with pytest.raises(RegistrationFailure, match="disk is full") as caught, writer(tmp_path / "out"):
        raise full_disk()
    assert caught.value.exit_code == 1
    assert names(tmp_path) == []


def test_directory_appears_only_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with atomic_directory(out) as temporary:
        (temporary / "result.json").write_text("{}")
        assert not out.exists()
    assert names(out.parent) == ["out"]
    assert names(out) == ["result.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~umask  # as any other folder the user makes


def test_directory_refuses_an_existing_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--overwrite"), atomic_directory(tmp_path):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"), atomic_directory(tmp_path / "file", overwrite=True):
        pass


def test_directory_made_by_somebody_else_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="already exists"), atomic_directory(out):
        out.mkdir()
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt])
def test_overwrite_keeps_the_old_result_until_the_new_one_is_complete(
    tmp_path: Path, exception: type[BaseException]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(exception), atomic_directory(out, overwrite=True) as temporary:
        (temporary / "new").write_text("half")
        raise exception
    assert names(tmp_path) == ["out"]
    assert names(out) == ["old"]
    with atomic_directory(out, overwrite=True) as temporary:
        (temporary / "new").write_text("new")
        assert names(out) == ["old"]
    assert names(tmp_path) == ["out"]
    assert names(out) == ["new"]


def test_the_old_result_returns_when_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.startswith(".tmp-"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UserError, match="busy"), atomic_directory(out, overwrite=True):
        pass
    assert names(tmp_path) == ["out"]
    assert names(out) == ["old"]


def test_overwrite_spares_folders_that_are_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with atomic_directory(out, overwrite=True, marker="result.json") as temporary:
        (temporary / "thesis.tex").write_text("x")
    with (
        pytest.raises(UserError, match=r"no result\.json"),
        atomic_directory(out, overwrite=True, marker="result.json"),
    ):
        pass
    (out / "sub").mkdir()
    monkeypatch.chdir(out / "sub")
    with pytest.raises(UserError, match="working folder"), atomic_directory(out, overwrite=True):
        pass
    assert names(out) == ["sub", "thesis.tex"]


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text("mine")
    for link, goal in (("link", elsewhere), ("dangling", tmp_path / "nothing"), ("to_folder", tmp_path)):
        (tmp_path / link).symlink_to(goal)
        with atomic_path(tmp_path / link) as temporary:
            temporary.write_text("new")
        assert not (tmp_path / link).is_symlink()
        assert (tmp_path / link).read_text() == "new"
    assert elsewhere.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


def test_links_on_the_way_are_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "scratch")
    with atomic_path(tmp_path / "results" / "a.json") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "results").is_symlink()
    assert names(tmp_path / "scratch") == ["a.json"]


def test_a_link_to_a_folder_is_replaced_with_overwrite_alone(tmp_path: Path) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "kept").write_text("mine")
    out.symlink_to(scratch)
    with pytest.raises(UserError, match="--overwrite"), atomic_directory(out):
        pass
    with atomic_directory(out, overwrite=True, marker="result.json", inputs=[scratch / "kept"]) as temporary:
        (temporary / "new").write_text("new")
    assert not out.is_symlink()
    assert (names(out), names(scratch)) == (["new"], ["kept"])
    assert names(tmp_path) == ["out", "scratch"]


@pytest.mark.posix
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="device or a pipe"), atomic_path(tmp_path / "pipe"):
        pass
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("through_link", [False, True])
def test_a_folder_with_inputs_is_not_replaced(tmp_path: Path, through_link: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    given = out / "fixed.nii.gz"
    given.write_text("voxels")
    if through_link:
        (tmp_path / "link.nii.gz").symlink_to(given)
        given = tmp_path / "link.nii.gz"
    with (
        pytest.raises(UserError, match=r"out holds .*\.nii\.gz, which is read"),
        atomic_directory(out, overwrite=True, inputs=[tmp_path, given]),
    ):
        pass
    assert names(out) == ["fixed.nii.gz"]


KILLED = """
import os, signal, sys
from pathlib import Path
from anamorph.image.atomic import atomic_directory, atomic_path, write_text
target, when = Path(sys.argv[1]), sys.argv[2]
rename = Path.rename
def stopped(self, goal):
    if when == "between" and self.name.startswith(".tmp-"):
        os.kill(os.getpid(), signal.SIGKILL)
    result = rename(self, goal)
    return result
Path.rename = stopped
writer = atomic_path(target) if when == "file" else atomic_directory(target, overwrite=True)
with writer as temporary:
    (temporary if when == "file" else temporary / "new").write_text("new")
    if when != "between":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_while_writing(target: Path, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(target), when], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.posix
@pytest.mark.parametrize("when", ["file", "folder"])
def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path: Path, when: str) -> None:
    killed_while_writing(tmp_path / "out", when)
    (left,) = names(tmp_path)
    assert left.startswith(".tmp-")
    assert left.endswith("-out")
    with atomic_path(tmp_path / "other") as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == ["other"]


@pytest.mark.posix
def test_a_result_that_was_out_of_the_way_is_put_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    killed_while_writing(out, "between")
    assert not out.exists()
    with pytest.raises(UserError, match="already exists"), atomic_directory(out):
        pass
    assert names(tmp_path) == ["out"]
    assert names(out) == ["old"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "one") as first:
        (first / "a").write_text("a")
        with atomic_directory(tmp_path / "one-more") as second:
            assert names(first) == ["a"]
            (second / "b").write_text("b")
    assert names(tmp_path) == ["one", "one-more"]


def test_of_another_machine_only_what_is_old_is_swept(tmp_path: Path) -> None:
    new, old = (tmp_path / f".tmp-0123abcd-1-7-{token}-out" for token in ("0000aaaa", "0000bbbb"))
    foreign = tmp_path / ".tmp-of-a-user"
    for path in (new, old, foreign):
        path.write_text("x")
        os.utime(path, (0, 0))
    os.utime(new)
    with atomic_directory(tmp_path / "out"):
        pass
    assert names(tmp_path) == sorted([new.name, foreign.name, "out"])


def test_long_names_are_written(tmp_path: Path) -> None:
    target = tmp_path / f"{'n' * 240}.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("x")
    assert names(tmp_path) == [target.name]


def test_names_that_are_no_text_are_escaped_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"scan-\xff-\xc3\xa9.nii.gz")
    write_text(tmp_path / "a.json", json.dumps({"name": name}, ensure_ascii=False))
    assert (tmp_path / "a.json").read_bytes() == b'{"name": "scan-\\udcff-\xc3\xa9.nii.gz"}'
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["name"] == name
