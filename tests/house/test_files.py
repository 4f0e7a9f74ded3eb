"""Files are whole or not there."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from rnn_common import files


def test_what_is_written_can_be_read(tmp_path):
    files.write_json({"σ": [1, 2.5, None]}, tmp_path / "a.json")
    files.write_text("ñ\n", tmp_path / "a.txt")
    files.write_bytes(b"\0\1", tmp_path / "a.bin")
    assert json.loads((tmp_path / "a.json").read_text()) == {"σ": [1, 2.5, None]}
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "ñ\n"
    assert (tmp_path / "a.bin").read_bytes() == b"\0\1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.json", "a.txt"]


def test_a_crash_before_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    files.write_json({"old": 1}, path)
    with pytest.raises(TypeError):
        files.write_json({"new": object()}, path)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        files.write_json({"new": 1}, path)
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    files.check_writable(tmp_path / "new.json")
    files.check_folder(tmp_path / "new" / "deeper")
    with pytest.raises(IsADirectoryError, match="output should be a file, got the folder"):
        files.check_writable(tmp_path)
    with pytest.raises(OSError, match="output should be in a folder that can be written"):
        files.check_writable(tmp_path / "absent" / "new.json")
    with pytest.raises(NotADirectoryError, match="output should be a folder, got the file"):
        files.check_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="output should be a folder, got the file"):
        files.check_folder(tmp_path / "file" / "deeper")
    with pytest.raises(NotADirectoryError, match="output should be in a folder that can be written"):
        files.check_writable(tmp_path / "file" / "new.json")
    (tmp_path / "there" / "report.json").mkdir(parents=True)
    with pytest.raises(
        IsADirectoryError, match=r"output should be a folder whose report.json is a file, got the folder"
    ):
        files.check_folder(tmp_path / "there", "report.json")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    with pytest.raises(NotADirectoryError, match="output should be a folder, got the file"):
        files.check_folder(tmp_path / "nowhere")
    # Where the permissions say yes to the superuser, and the file system says no.
    with pytest.raises(OSError, match="output should be a folder that can be written, got /proc/new"):
        files.check_folder(Path("/proc/new"))
    with pytest.raises(OSError, match=r"output should be in a folder that can be written, got /proc/new\.json"):
        files.check_writable(Path("/proc/new.json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere", "there"]  # trials leave nothing


def test_an_error_names_the_file(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=rf"^cannot write {tmp_path}/absent/report: No such file or directory$"):
        files.write_text("report", tmp_path / "absent" / "report")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"^cannot write {tmp_path}/report: No space left on device$"):
        files.write_text("report", tmp_path / "report")


def test_what_is_no_file_stays_what_it_is(tmp_path):
    """A device or a pipe is written to, never replaced; of a link, its target is written."""
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    read = []
    reader = Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    files.check_writable(pipe)
    files.write_bytes(b"report", pipe)
    reader.join()
    assert read == [b"report"]
    assert pipe.is_fifo()
    link.symlink_to(target)
    for content in ("first", "second"):
        files.write_text(content, link)
    assert link.is_symlink()
    assert target.read_text() == "second"


KILLED = """
import os, signal, sys
from pathlib import Path
from rnn_common import files
os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
files.write_text("half of it", Path(sys.argv[1]))
"""


def test_temporary_files_of_killed_runs_go(tmp_path):
    """With the next file that is written beside them: they alone, and none that somebody writes at the moment."""
    strangers = [
        tmp_path / name for name in (".rnn-parity-notes", ".rnn-parity-mine.txt", ".other-abcdefgh", "rnn-parity")
    ]
    for path in strangers:
        path.write_text("kept")
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "report.json")])
    assert ran.returncode == -signal.SIGKILL
    (left,) = set(tmp_path.iterdir()) - set(strangers)
    assert left.read_text() == "half of it"
    with files._temporary(tmp_path) as file:
        files.write_json({}, tmp_path / "another.json")
        assert set(tmp_path.iterdir()) - set(strangers) == {Path(file.name), tmp_path / "another.json"}
    files.write_json({}, tmp_path / "another.json")
    assert set(tmp_path.iterdir()) - set(strangers) == {tmp_path / "another.json"}
    assert {path.read_text() for path in strangers} == {"kept"}


def test_a_temporary_file_that_is_taken_for_a_leftover_is_made_anew(tmp_path, monkeypatch):
    """Another process may look between the moment in which it is made and that in which it is held."""
    locked = files.fcntl.flock
    taken = []

    def flock(file, how):
        if not taken:
            taken.append(file.name)
            files.os.unlink(file.name)
        locked(file, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    files.write_text("whole", tmp_path / "report")
    assert len(taken) == 1
    assert (tmp_path / "report").read_text() == "whole"


def test_without_locks_nothing_is_taken_for_a_leftover(tmp_path, monkeypatch):
    (tmp_path / ".rnn-parity-abcdefgh").write_text("perhaps somebody's")
    monkeypatch.setattr(files, "fcntl", None)
    files.write_text("whole", tmp_path / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".rnn-parity-abcdefgh", "report"]
