"""Tables on disk: what is written comes back; arrays without a meaning do not, though their checksum be right."""

import numpy as np
import pytest

from maxrl_lab.tabular import table_cache
from maxrl_lab.tabular.exploring import FAILURE, RUNNING, SUCCESS, Table


@pytest.fixture
def table():
    """Three states and two actions; the second and the third look alike."""
    successors = np.array([[1, 2], [1, 1], [2, 2]])[..., None]
    features = np.array([[7, 8, 9, 10], [0, 1, 2, 255]], dtype=np.uint8)
    outcome = np.array([RUNNING, SUCCESS, FAILURE], dtype=np.int8)
    return Table(successors, np.ones((3, 2, 1)), np.eye(3)[0], outcome, np.array([0, 1, 1]), features)


def stored(file):
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays if name != "checksum"}


def store(file, arrays):
    """Write arrays with the checksum that belongs to them."""
    np.savez(file, checksum=table_cache._checksum(file.name, arrays), **arrays)


def test_what_is_written_comes_back_to_the_last_type(tmp_path, table):
    table_cache.write(tmp_path / "table.npz", table)
    for before, after in zip(table, table_cache.read(tmp_path / "table.npz"), strict=True):
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)


def test_a_file_is_small_integers_and_reads_no_more_than_that(tmp_path, table):
    table_cache.write(tmp_path / "table.npz", table)
    types = {name: str(array.dtype) for name, array in stored(tmp_path / "table.npz").items()}
    assert types == {"successors": "int32", "outcome": "int8", "observations": "int32", "features": "uint8"}


def test_there_is_none(tmp_path):
    assert table_cache.read(tmp_path / "table.npz") is None


def test_a_file_belongs_to_its_name(tmp_path, table):
    table_cache.write(tmp_path / "table.npz", table)
    (tmp_path / "table.npz").rename(tmp_path / "other.npz")
    assert table_cache.read(tmp_path / "other.npz") is None


NONSENSE = {
    "no states": lambda arrays: {name: value[:0] for name, value in arrays.items() if name != "features"},
    "no actions": lambda arrays: {"successors": arrays["successors"][:, :0]},
    "a state too far": lambda arrays: {"successors": arrays["successors"] + np.int32(1)},
    "a state before the first": lambda arrays: {"successors": arrays["successors"] - np.int32(2)},
    "successors with an axis more": lambda arrays: {"successors": arrays["successors"][..., None]},
    "an outcome too few": lambda arrays: {"outcome": arrays["outcome"][:-1]},
    "an outcome of no kind": lambda arrays: {"outcome": arrays["outcome"] + np.int8(1)},
    "an outcome below all kinds": lambda arrays: {"outcome": arrays["outcome"] - np.int8(1)},
    "an observation too few": lambda arrays: {"observations": arrays["observations"][:-1]},
    "an observation too far": lambda arrays: {"observations": arrays["observations"] + np.int32(1)},
    "an observation before the first": lambda arrays: {"observations": arrays["observations"] - np.int32(1)},
    "features with an axis less": lambda arrays: {"features": arrays["features"][:, 0]},
    "successors of another type": lambda arrays: {"successors": arrays["successors"].astype(np.int64)},
    "outcomes of another type": lambda arrays: {"outcome": arrays["outcome"].astype(np.int32)},
    "observations of another type": lambda arrays: {"observations": arrays["observations"].astype(np.uint32)},
    "features of another type": lambda arrays: {"features": arrays["features"].astype(np.float32)},
}
"""What makes a table without a meaning of one with a meaning: the arrays that are replaced."""


@pytest.mark.parametrize("kind", NONSENSE)
def test_arrays_without_a_meaning_are_no_table(tmp_path, table, kind):
    file = tmp_path / "table.npz"
    table_cache.write(file, table)
    arrays = stored(file)
    store(file, arrays)
    assert table_cache.read(file) is not None  # the checksum of the test is that of the cache
    store(file, arrays | NONSENSE[kind](arrays))
    assert table_cache.read(file) is None


def test_a_folder_that_cannot_be_written_to_costs_a_warning_with_its_remedy(tmp_path, table):
    (tmp_path / "block").touch()
    with pytest.warns(RuntimeWarning, match=r"\Athe table is not kept for the next time \(.+\); MAXRL_LAB_CACHE names"):
        table_cache.write(tmp_path / "block" / "table.npz", table)


def test_that_warning_points_at_the_line_that_asked_for_the_tasks(tmp_path, table):
    (tmp_path / "block").touch()

    def task():
        table_cache.write(tmp_path / "block" / "table.npz", table)

    def tasks():
        task()

    with pytest.warns(RuntimeWarning) as warned:
        exec(compile("tasks()", "program.py", "exec"), {"tasks": tasks})
    assert warned[0].filename == "program.py"
