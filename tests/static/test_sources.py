"""Which files are found, and that nothing in a tree can stop the search."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit.errors import UsageError
from mpaudit.settings import EXCLUDE, Settings
from mpaudit.static import sources
from mpaudit.static.sources import decode, discover, project_files, project_root, read


def tree(root: Path, *files: str) -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def found(root: Path, *paths: str, exclude: tuple[str, ...] = EXCLUDE) -> list[str]:
    result = discover(paths, Settings(root=str(root), exclude=exclude), root)
    assert result.files == tuple(sorted(result.files))
    return [file.relative_to(root).as_posix() for file in result.files]


def problems(root: Path, *paths: str) -> dict[str, str]:
    result = discover(paths, Settings(root=str(root)), root)
    return {Path(problem.path).relative_to(root).as_posix(): problem.message for problem in result.errors}


def test_python_files_in_order(tmp_path: Path) -> None:
    tree(tmp_path, "b.py", "a/z.py", "a/b/c.py", "a.pyi", "n.ipynb", "README.md", "a/x.pyc")
    assert found(tmp_path) == ["a/b/c.py", "a/z.py", "b.py"]
    assert found(tmp_path, "a", "b.py", "a/z.py", ".") == ["a/b/c.py", "a/z.py", "b.py"]
    assert found(tmp_path, "a/../b.py") == ["b.py"]


def test_paths_are_absolute(tmp_path: Path) -> None:
    tree(tmp_path, "a.py")
    assert discover(["a.py", str(tmp_path / "a.py")], Settings(root=str(tmp_path)), tmp_path).files == (
        tmp_path / "a.py",
    )


@pytest.mark.parametrize(
    "folder", [".git", ".venv", "venv", "node_modules", "__pycache__", "build", "a/site-packages", ".tox"]
)
def test_folders_that_are_nobodys_code(tmp_path: Path, folder: str) -> None:
    tree(tmp_path, "a.py", f"{folder}/b.py", f"{folder}/c/d.py")
    assert found(tmp_path) == ["a.py"]
    assert found(tmp_path, f"{folder}/b.py") == [f"{folder}/b.py"]
    assert found(tmp_path, folder) == [f"{folder}/b.py", f"{folder}/c/d.py"]


def test_virtual_environments_by_any_name(tmp_path: Path) -> None:
    tree(tmp_path, "a.py", "myenv/pyvenv.cfg", "myenv/lib/b.py", "env/model.py")
    assert found(tmp_path) == ["a.py", "env/model.py"]
    assert found(tmp_path, "myenv") == ["myenv/lib/b.py"]


def test_an_excluded_folder_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a.py", ".venv/b.py", "ignored/c.py", "mine/d.py")
    (tmp_path / ".gitignore").write_text("ignored/\n")
    entered = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: entered.append(Path(path).name) or scandir(path))
    assert found(tmp_path) == ["a.py", "mine/d.py"]
    assert "mine" in entered
    assert not {".venv", "ignored"} & set(entered)


def test_excludes_are_gitignore_patterns(tmp_path: Path) -> None:
    tree(tmp_path, "a.py", "old/a.py", "src/old/b.py", "src/gen_x.py", "src/keep/gen_y.py", "docs/conf.py")
    assert found(tmp_path, exclude=("old",)) == ["a.py", "docs/conf.py", "src/gen_x.py", "src/keep/gen_y.py"]
    assert found(tmp_path, exclude=("/old/", "docs/*.py")) == [
        "a.py",
        "src/gen_x.py",
        "src/keep/gen_y.py",
        "src/old/b.py",
    ]
    assert found(tmp_path, exclude=("gen_*.py", "!**/keep/gen_y.py", "old", "docs")) == ["a.py", "src/keep/gen_y.py"]


def test_gitignore_governs_its_folder(tmp_path: Path) -> None:
    tree(tmp_path, "a.py", "x/a.py", "x/b.py", "x/y/b.py", "z/b.py")
    (tmp_path / "x" / ".gitignore").write_text("b.py\n")
    assert found(tmp_path) == ["a.py", "x/a.py", "z/b.py"]


def test_the_deepest_gitignore_that_speaks_decides(tmp_path: Path) -> None:
    tree(tmp_path, "x/a.py", "x/b.py", "y/a.py", "out/z/a.py")
    (tmp_path / ".gitignore").write_text("a.py\nout/\n")
    (tmp_path / "x" / ".gitignore").write_text("!a.py\n")
    (tmp_path / "out" / ".gitignore").write_text("!a.py\n")  # cannot bring back what is in an ignored folder
    assert found(tmp_path) == ["x/a.py", "x/b.py"]


def test_gitignore_patterns_with_a_slash_are_anchored(tmp_path: Path) -> None:
    tree(tmp_path, "data/a.py", "src/data/a.py", "src/gen/b.py")
    (tmp_path / ".gitignore").write_text("# comment\n\n/data\nsrc/gen/*.py\n")
    assert found(tmp_path) == ["src/data/a.py"]


@pytest.mark.parametrize("text", ["*\n!*/\n!*.py\n", "*\n!*.py\n!*/\n", "/*\n!/src\n"])
def test_gitignore_as_a_list_of_what_to_keep(tmp_path: Path, text: str) -> None:
    tree(tmp_path, "src/a.py", "src/sub/b.py")
    (tmp_path / ".gitignore").write_text(text)
    assert found(tmp_path) == ["src/a.py", "src/sub/b.py"]


def test_gitignore_above_the_folder_counts(tmp_path: Path) -> None:
    tree(tmp_path, "pkg/a.py", "pkg/sub/gen.py", "pkg/sub/b.py")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("gen.py\npkg/sub/b.py\n")
    assert found(tmp_path, "pkg/sub") == []
    assert found(tmp_path, "pkg") == ["pkg/a.py"]
    assert found(tmp_path, "pkg/sub/gen.py") == ["pkg/sub/gen.py"]


def test_gitignore_above_the_project_does_not(tmp_path: Path) -> None:
    tree(tmp_path, "repo/a.py")
    (tmp_path / "repo" / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.py\n")
    assert found(tmp_path, "repo") == ["repo/a.py"]


def test_an_ignored_folder_that_is_named(tmp_path: Path) -> None:
    tree(tmp_path, "out/a.py", "out/b/c.py")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("out/\n")
    assert found(tmp_path, ".") == []
    assert found(tmp_path, "out") == ["out/a.py", "out/b/c.py"]


def test_a_gitignore_that_is_no_text(tmp_path: Path) -> None:
    tree(tmp_path, "a.py", "b.py")
    (tmp_path / ".gitignore").write_bytes(b"\xff\xfe[\x00\nb.py\n")
    assert found(tmp_path) == ["a.py"]


@pytest.mark.parametrize("text", ["!\nb.py\n", "\\\nb.py\n", "c\\\nb.py\n", "/\nb.py\n", "\ufeffb.py\n"])
def test_a_gitignore_is_read_as_git_does(tmp_path: Path, text: str) -> None:
    """Lines that are no pattern, and the mark that some editors put before the first."""
    tree(tmp_path, "a.py", "b.py")
    (tmp_path / ".gitignore").write_text(text, encoding="utf-8")
    assert found(tmp_path) == ["a.py"]


def test_a_missing_path_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder 'nowhere'"):
        discover(["nowhere"], Settings(root=str(tmp_path)), tmp_path)


def test_explicit_files_need_no_suffix(tmp_path: Path) -> None:
    tree(tmp_path, "train", "stub.pyi", "book.ipynb")
    assert found(tmp_path, "train", "stub.pyi", "book.ipynb") == ["train"]
    assert problems(tmp_path, "stub.pyi", "book.ipynb") == {
        "stub.pyi": ".pyi files are not audited",
        "book.ipynb": ".ipynb files are not audited",
    }


def test_links(tmp_path: Path) -> None:
    tree(tmp_path, "real/a.py", "elsewhere.txt")
    (tmp_path / "link.py").symlink_to("real/a.py")
    (tmp_path / "folder").symlink_to("real", target_is_directory=True)
    (tmp_path / "loop").symlink_to(".", target_is_directory=True)
    (tmp_path / "self.py").symlink_to("self.py")
    (tmp_path / "broken.py").symlink_to("gone.py")
    (tmp_path / "folder.py").symlink_to("real", target_is_directory=True)
    assert found(tmp_path) == ["link.py", "real/a.py"]
    assert found(tmp_path, "folder") == ["folder/a.py"]
    assert set(problems(tmp_path)) == {"self.py", "broken.py"}
    assert problems(tmp_path, "broken.py")["broken.py"].startswith("broken link")


def test_a_fifo_is_an_error_and_blocks_nobody(tmp_path: Path) -> None:
    tree(tmp_path, "a.py")
    os.mkfifo(tmp_path / "pipe.py")
    assert found(tmp_path) == ["a.py"]
    assert problems(tmp_path) == {"pipe.py": "not a regular file"}
    assert problems(tmp_path, "pipe.py") == {"pipe.py": "not a regular file"}
    assert read(tmp_path / "pipe.py") == "not a regular file"


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a.py", "secret/b.py", "z.py")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(tmp_path) == ["a.py", "z.py"]
    assert problems(tmp_path) == {"secret": "Permission denied"}


def test_hostile_names(tmp_path: Path) -> None:
    names = ["new\nline.py", "<script>.py", "\x1b[31mred.py", "quote'\".py", "ünï.py", " .py", "-rf.py"]
    for name in names:
        (tmp_path / name).write_text("")
    assert found(tmp_path) == sorted(names)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/bad\xff.py"
    try:
        with open(path, "wb"):
            pass
    except OSError:  # a file system that wants UTF-8 has no such files
        return
    [file] = discover([], Settings(root=str(tmp_path)), tmp_path).files
    assert os.fsencode(file) == path


def test_ten_thousand_levels_do_not_recurse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(300):
        os.mkdir("d")
        os.chdir("d")
    Path("a.py").write_text("")
    os.chdir(tmp_path)
    assert len(found(tmp_path)) == 1


# ------------------------------------------------------------------------ reading


def test_read(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xff\0x")
    assert read(tmp_path / "a.py") == b"\xff\0x"
    assert read(tmp_path / "gone.py") == "No such file or directory"
    assert read(tmp_path) == "not a regular file"
    assert read("nul\0.py") == "embedded null byte"


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 2_000_000)
    path = tmp_path / "a.py"
    path.write_bytes(bytes(2_000_000))
    assert read(path) == bytes(2_000_000)
    path.write_bytes(bytes(2_600_000))
    assert read(path) == "too large to analyse (2.6 MB; the limit is 2.0 MB)"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"x = 1\r\ny = 2\rz\n", "x = 1\ny = 2\nz\n"),
        (b"\xef\xbb\xbfx = 1", "x = 1"),
        ("# coding: latin-1\nx = 'é'".encode("latin-1"), "# coding: latin-1\nx = 'é'"),
        (
            "#!/bin/python\n# -*- coding: cp1251 -*-\n'ж'".encode("cp1251"),
            "#!/bin/python\n# -*- coding: cp1251 -*-\n'ж'",
        ),
        (b"# coding: no-such\nx = '\xff'", "# coding: no-such\nx = '\ufffd'"),
        (b"# coding: rot13\nx", "# coding: rot13\nx"),
        (b"x = '\xff'", "x = '\ufffd'"),
        (b"a\x0cb\x1cc\xe2\x80\xa8d\n", "a\x0cb\x1cc\u2028d\n"),
        (b"", ""),
    ],
)
def test_decode(data: bytes, text: str) -> None:
    assert decode(data) == text


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"# coding: ", b"# coding: utf-7\n", b"\xef\xbb\xbf# coding: latin-1\n"]),
)
def test_decode_never_raises(data: bytes, head: bytes) -> None:
    assert "\r" not in decode(head + data)


# ------------------------------------------------------------------- project root


def root_of(tmp_path: Path, file: str) -> str:
    sources._root_of_folder.cache_clear()
    return project_root(tmp_path / file).relative_to(tmp_path).as_posix()


@pytest.mark.parametrize("mark", [".git", ".hg"])
def test_root_is_the_nearest_repository(tmp_path: Path, mark: str) -> None:
    tree(tmp_path, "train.py", "a/b/c/d.py", "a/b/README.md")
    (tmp_path / mark).mkdir()
    assert root_of(tmp_path, "a/b/c/d.py") == "."
    (tmp_path / "a" / mark).write_text("gitdir: elsewhere")  # a worktree or submodule
    assert root_of(tmp_path, "a/b/c/d.py") == "a"


def test_root_without_repository_climbs_while_it_looks_like_a_project(tmp_path: Path) -> None:
    tree(tmp_path, "proj/setup.cfg", "proj/src/__init__.py", "proj/src/models/net.py", "other/x.txt")
    assert root_of(tmp_path, "proj/src/models/net.py") == "proj"
    assert root_of(tmp_path, "proj/src/a.py") == "proj"


def test_root_stops_at_a_folder_without_project_files(tmp_path: Path) -> None:
    tree(tmp_path, "proj/README.md", "proj/gap/data.csv", "proj/gap/deep/train.py")
    assert root_of(tmp_path, "proj/gap/deep/train.py") == "proj/gap/deep"


@pytest.mark.parametrize(
    "name", ["train.py", "pyproject.toml", "requirements.txt", "README.rst", "LICENSE", "environment.yml"]
)
def test_what_a_project_looks_like(tmp_path: Path, name: str) -> None:
    tree(tmp_path, f"proj/{name}", "proj/pkg/a.py")
    assert root_of(tmp_path, "proj/pkg/a.py") == "proj"


def test_root_is_never_home_or_a_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "home/notes.py", "home/proj/a.py", "tmp/b.py", "tmp/proj/a.py", "top.py")
    (tmp_path / "home" / ".git").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    assert root_of(tmp_path, "home/proj/a.py") == "home/proj"
    assert root_of(tmp_path, "tmp/proj/a.py") == "tmp/proj"
    assert root_of(tmp_path, "home/notes.py") == "home"  # its own folder is all there is


def test_root_does_not_depend_on_what_is_given(tmp_path: Path) -> None:
    tree(tmp_path, "proj/README", "proj/a/x.py", "proj/a/b/y.py", "proj/a/b/c/z.py")
    files = ["proj/a/x.py", "proj/a/b/y.py", "proj/a/b/c/z.py"]
    assert {root_of(tmp_path, file) for file in files} == {"proj"}


def test_files_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "proj/a.py", "proj/b/c.py", "proj/venv/d.py")
    settings = Settings(root=str(tmp_path))
    assert project_files(tmp_path / "proj", settings) == discover(["proj"], settings, tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "proj"))  # a script in the home folder is not followed through all of it
    assert project_files(tmp_path / "proj", settings).files == (tmp_path / "proj" / "a.py",)
