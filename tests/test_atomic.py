from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from anamorph.errors import RegistrationFailure, UserError
from anamorph.image.atomic import atomic_directory, atomic_path


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
