"""What a reader makes of a stranger's file: what it says, and how much memory that takes."""

import tracemalloc


def said_of(read, path):
    """What a file is refused with, in one line; nothing of one that is read."""
    try:
        for array in read(path).arrays.values():
            array[:1].sum() if array.ndim else array.sum()  # an expanded array is larger than the file
    except (ValueError, OSError) as error:
        said = str(error)
    else:
        return ""
    assert "\n" not in said
    assert 0 < len(said) < 1000
    return said


def peak(read, path):
    """How much memory reading takes beyond what is there, whatever comes of it; and that."""
    tracemalloc.start()
    said = said_of(read, path)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return taken, said
