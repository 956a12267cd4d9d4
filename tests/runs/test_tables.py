"""Tables as csv files: every value comes back as it was, and what is no table is our fault."""

import numpy as np
import pytest

from maxrl_lab.errors import InputError
from maxrl_lab.runs.tables import compress_table, read_table, table_file, write_tables

ROWS = [{"step": 0, "metric": "pass_rate", "value": 0.1}, {"step": 10, "metric": "pass_rate", "value": 1 / 3}]


def written(folder, rows):
    """The rows after a journey through a file."""
    (digest,) = write_tables(folder, {"rows": rows}).values()
    return read_table(table_file(folder, "rows"), digest)


def test_a_table_is_long_form_with_one_line_a_row(tmp_path):
    written(tmp_path, ROWS)
    expected = "step,metric,value\n0,pass_rate,0.1\n10,pass_rate,0.3333333333333333\n"
    assert (tmp_path / "rows.csv").read_bytes() == expected.encode()


def test_every_float_comes_back_with_the_same_bits(tmp_path):
    # Random bit patterns cover all exponents; the rest are the ends of the range and the signed zero.
    random = np.random.default_rng(0).integers(0, 2**64, 2000, dtype=np.uint64).view(np.float64)
    extremes = [0.1, 1 / 3, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, np.inf, -np.inf]
    values = np.concatenate([random[np.isfinite(random)], extremes])
    back = written(tmp_path, [{"value": value} for value in values.tolist()])["value"].to_numpy()
    assert back.dtype == np.float64
    assert np.array_equal(back.view(np.uint64), values.view(np.uint64))


def test_missing_whole_and_boolean_values_come_back(tmp_path):
    rows = [{"count": 2**53 + 1, "right": True, "value": float("nan")}, {"count": 0, "right": False, "value": 1.0}]
    back = written(tmp_path, rows)
    assert back["count"].tolist() == [2**53 + 1, 0]  # not representable in float64
    assert back["right"].tolist() == [True, False]
    assert back["value"].isna().tolist() == [True, False]


def test_text_that_looks_like_a_missing_value_comes_back_as_text(tmp_path):
    assert written(tmp_path, [{"schedule": "None"}, {"schedule": "NA"}])["schedule"].tolist() == ["None", "NA"]


def test_a_changed_file_is_refused_by_name(tmp_path, refuses):
    digests = write_tables(tmp_path, {"sweep": ROWS, "curves": ROWS[:1]})
    file = table_file(tmp_path, "curves")
    file.write_text(file.read_text().replace("0.1", "0.2"))
    assert len(read_table(table_file(tmp_path, "sweep"), digests["sweep"])) == 2
    with refuses(f"{file} is not what its run wrote (damaged or edited); start again with --force"):
        read_table(file, digests["curves"])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "expected at least one table, got none"),
        ({"rows": []}, "the table 'rows' has no rows"),
        ({"rows": ROWS, "sweep": []}, "the table 'sweep' has no rows"),
        ({"../rows": ROWS}, "the name of a table must be lower-case letters, digits and _, got '../rows'"),
        ({"Rows": ROWS}, "the name of a table must be lower-case letters, digits and _, got 'Rows'"),
    ],
)
def test_what_is_no_table_is_a_fault_of_ours_and_nothing_is_written(tmp_path, tables, message):
    with pytest.raises(RuntimeError) as raised:
        write_tables(tmp_path, tables)
    assert str(raised.value) == message
    assert not isinstance(raised.value, InputError)
    assert list(tmp_path.iterdir()) == []


class TestCompressed:
    @pytest.fixture
    def compressed(self, tmp_path):
        """The folder of a compressed table, and the digest of the plain one."""
        (digest,) = write_tables(tmp_path / "plain", {"rows": ROWS}).values()
        compress_table(table_file(tmp_path / "plain", "rows"), tmp_path / "kept")
        return tmp_path / "kept", digest

    def test_it_is_read_like_a_plain_one(self, compressed, tmp_path):
        folder, digest = compressed
        assert [path.name for path in folder.iterdir()] == ["rows.csv.gz"]
        plain = read_table(table_file(tmp_path / "plain", "rows"), digest)
        assert read_table(table_file(folder, "rows"), digest).equals(plain)

    def test_it_has_the_same_bytes_whenever_it_is_made(self, compressed, tmp_path):
        again = compress_table(table_file(tmp_path / "plain", "rows"), tmp_path / "again")
        assert again.read_bytes() == (compressed[0] / "rows.csv.gz").read_bytes()

    @pytest.mark.parametrize("damage", [lambda content: content[:20], lambda _: b"", lambda _: b"no gzip"])
    def test_a_damaged_one_is_refused(self, compressed, damage):
        folder, digest = compressed
        file = table_file(folder, "rows")
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(InputError, match="is not what its run wrote"):
            read_table(file, digest)

    def test_a_plain_table_comes_first(self, compressed):
        folder, _ = compressed
        (folder / "rows.csv").write_text("step\n0\n")
        assert table_file(folder, "rows").name == "rows.csv"
