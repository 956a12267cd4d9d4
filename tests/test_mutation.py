"""What `make mutation` copies is there, so that it cannot end with nothing to change or nothing to run."""

import mutation


def test_everything_that_is_changed_and_everything_that_notices_it_is_copied(tmp_path):
    mutation.copy_project(tmp_path, mutation.MUTATED)
    for pattern in mutation.MUTATED:
        assert list((tmp_path / "maxrl_lab").glob(pattern))
        assert f'"maxrl_lab/{pattern}"' in (tmp_path / "pyproject.toml").read_text()
    copied = sorted(path.stem for path in (tmp_path / "tests" / "theory").glob("test_*.py"))
    assert copied == sorted(f"test_{name}" for name in mutation.TESTS)
    assert (tmp_path / "tests" / "golden" / "estimator_moments.json").exists()
