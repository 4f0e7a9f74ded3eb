"""Files are whole or not there."""

import json
import os

import pytest

from common import files


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
