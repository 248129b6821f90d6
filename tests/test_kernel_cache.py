from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TINY = """
from numba import njit


@njit(cache=True)
def double(x):
    return 2 * x + 1000000007
"""
RUN = """
import importlib.util, os, sys
import anamorph
from anamorph.runtime.compilation import watch_compilation
{before}
spec = importlib.util.spec_from_file_location("anamorph.tiny", {path!r})
module = importlib.util.module_from_spec(spec)
sys.modules["anamorph.tiny"] = module
spec.loader.exec_module(module)
with watch_compilation() as compiled:
    assert module.double(3) == 1000000013
print("compiled" if compiled.seconds else "loaded", module.double._cache.cache_path)
"""
READ_ONLY = """
from numba.core.caching import InTreeCacheLocator
def refuse(self):
    raise PermissionError("read-only")
InTreeCacheLocator.ensure_cache_path = refuse
"""


class Tiny:
    """A module of one small kernel in a folder of its own, run in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tiny.py"
        self.temporary = folder / "temporary"
        self.temporary.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.write_text(TINY)

    def run(self, before: str = "", **environment: str) -> tuple[str, str, str]:
        """How the kernel was come by, the folder of the cache, and what was said."""
        nowhere = {"HOME": "/proc/nowhere", "TMPDIR": str(self.temporary)}  # nobody can make a folder in /proc
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_", "ANAMORPH_"))}
        code = RUN.format(path=str(self.path), before=before)
        done = subprocess.run(
            [sys.executable, "-c", code], env=kept | nowhere | environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        how, folder = done.stdout.split()
        return how, folder, done.stderr

    @property
    def beside(self) -> Path:
        return self.path.parent / "__pycache__"


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return Tiny(tmp_path / "fresh")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    tiny = Tiny(tmp_path_factory.mktemp("once"))
    assert tiny.run() == ("compiled", str(tiny.beside), "")
    return tiny


@pytest.fixture
def compiled(once: Tiny, tmp_path: Path) -> Tiny:
    """A copy, with the cache beside it that a first run left."""
    shutil.copytree(once.path.parent, tmp_path / "compiled")
    return Tiny(tmp_path / "compiled")


def test_kernels_are_kept_where_numba_keeps_them(compiled: Tiny):
    assert compiled.run() == ("loaded", str(compiled.beside), "")


def test_a_cache_that_may_only_be_read_is_used(compiled: Tiny):
    how, _, said = compiled.run(READ_ONLY)
    assert (how, said) == ("loaded", "")


def test_without_a_folder_to_write_to_the_temporary_one_is_taken_and_told_once(tiny: Tiny):
    how, folder, said = tiny.run(READ_ONLY)
    assert how == "compiled"
    assert Path(folder).is_relative_to(tiny.temporary)
    assert said.count("\n") == 1
    assert "set NUMBA_CACHE_DIR" in said
    assert tiny.run(READ_ONLY) == ("loaded", folder, "")


def test_a_temporary_folder_of_somebody_else_is_not_trusted(tiny: Tiny):
    (tiny.temporary / f"anamorph-kernels-{os.getuid()}").mkdir(mode=0o777)
    (tiny.temporary / f"anamorph-kernels-{os.getuid()}").chmod(0o777)
    how, _, said = tiny.run(READ_ONLY)
    assert how == "compiled"
    assert "the next run compiles them again" in said
    assert not any((tiny.temporary / f"anamorph-kernels-{os.getuid()}").iterdir())


@pytest.mark.parametrize(("suffix", "content"), [(".nbi", b""), (".nbi", b"\x80\x05garbage"), (".nbc", b"\x00" * 500)])
def test_a_damaged_file_is_told_and_replaced(compiled: Tiny, suffix: str, content: bytes):
    (file,) = compiled.beside.glob(f"*{suffix}")
    file.write_bytes(content)
    how, _, said = compiled.run()
    assert how == "compiled"
    assert said.count("\n") == 1
    assert "is compiled again" in said
    assert compiled.run() == ("loaded", str(compiled.beside), "")


def test_a_flipped_byte_in_machine_code_is_noticed(compiled: Tiny):
    (file,) = compiled.beside.glob("*.nbc")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert compiled.run()[0] == "compiled"
    file.write_bytes(file.read_bytes()[:-50])  # the check sum of the new one is torn
    assert compiled.run()[0] == "compiled"


def test_a_damaged_cache_that_may_only_be_read_is_passed_over(compiled: Tiny):
    (file,) = compiled.beside.glob("*.nbi")
    file.write_bytes(b"garbage")
    assert compiled.run(READ_ONLY)[0] == "compiled"


def test_what_numba_wrote_itself_is_still_loaded(tiny: Tiny):
    plain = "import anamorph.runtime.compilation\nanamorph.runtime.compilation._OWN = 'nothing.'\n"
    assert tiny.run(plain)[0] == "compiled"
    assert tiny.run() == ("loaded", str(tiny.beside), "")


def test_numba_that_was_imported_before_is_caught_up_with():
    code = "import numba, anamorph\nfrom numba.core import dispatcher\nprint(dispatcher.FunctionCache.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "_cache_of\n"
