"""The files of a run, and what they say about it: which settings and code it is of, and whether it is complete."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from maxrl_lab.errors import InputError
from maxrl_lab.fields import fields_of
from maxrl_lab.runs.files import first_difference, read_json, write_json
from maxrl_lab.runs.fingerprint import changed_files, name_files
from maxrl_lab.runs.tables import table_file
from maxrl_lab.settings import Settings

Kept = TypeVar("Kept", dict[str, Any], list[dict[str, Any]])
_UNSEALED = {"complete", "settings", "tables", "sessions", "code"}
_NOT_AS_WRITTEN = "{} is not what its run wrote (damaged or edited); start again with --force"


@dataclass(frozen=True)
class Record:
    """The run in a folder, which may be missing, unfinished or complete."""

    folder: Path

    @property
    def settings(self) -> Path:
        """The experiment, its settings and the kind of device, as JSON."""
        return self.folder / "settings.json"

    @property
    def provenance(self) -> Path:
        """Whether the run is complete, its tables, its code and its sessions, as JSON."""
        return self.folder / "provenance.json"

    @property
    def checkpoint(self) -> Path:
        """The folder of unfinished state."""
        return self.folder / "checkpoint"

    def exists(self) -> bool:
        """Return whether the folder holds something of a run."""
        return self.settings.exists() or self.provenance.exists() or self.checkpoint.exists()

    def is_complete(self) -> bool:
        """Return whether the run is finished and has all its tables."""
        return self.says_complete() and all(table_file(self.folder, name).exists() for name in self.digests())

    def says_complete(self) -> bool:
        """Return whether the run has been finished, whatever has become of its tables."""
        return self.provenance.exists() and self.read_provenance("complete")["complete"] is True

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of every table of a finished run."""
        return self._read("tables", dict)

    def code(self) -> dict[str, str]:
        """Return the fingerprint of the code that makes the run; empty if no session has begun."""
        return self._read("code", dict) if self.provenance.exists() else {}

    def sessions(self) -> list[dict[str, Any]]:
        """Return the sessions that the run has had so far."""
        return self._read("sessions", list) if self.provenance.exists() else []

    def read_provenance(self, *keys: str) -> dict[str, Any]:
        """Return provenance.json; raise `InputError` if it lacks a key or is not what the run wrote.

        That of a run from before it had a digest of its own cannot tell.
        """
        content = read_json(self.provenance, *keys)
        if not content.keys() <= _UNSEALED and content != sealed(content):
            raise InputError(_NOT_AS_WRITTEN.format(self.provenance))
        return content

    def _read(self, key: str, kind: type[Kept]) -> Kept:
        content = self.read_provenance(key)[key]
        if not isinstance(content, kind):
            raise InputError(
                f"{self.provenance} is damaged (its {key} are no {kind.__name__}); start again with --force"
            )
        return content

    def check_code(self, code: Mapping[str, str]) -> None:
        """Raise `InputError`, which names the files that differ, if a session of the run had other code than this."""
        files = changed_files(self.code(), code)
        if files and self.provenance.exists():
            kind, way = "a", "`run` with --force makes it anew, --stale shows it as it is"
            if not self.is_complete():
                kind, way = "an unfinished", "--force starts it again"
            raise InputError(f"{self.folder} holds {kind} run of other code (differs in {name_files(files)}); {way}")

    def write_provenance(
        self, sessions: Sequence[Mapping[str, Any]], code: Mapping[str, str], tables: Mapping[str, str] | None = None
    ) -> None:
        """Write provenance.json; the run is complete if the digests of its tables are given."""
        digest = _digest(self.settings)
        described = {"complete": tables is not None, "settings": digest, "tables": tables or {}, "sessions": sessions}
        write_json(self.provenance, sealed({**described, "code": code}))

    def check_settings_file(self) -> None:
        """Raise `InputError` if settings.json is not what the run wrote; the provenance of old runs cannot tell."""
        digest = self.read_provenance().get("settings")
        if digest is not None and digest != _digest(self.settings):
            raise InputError(_NOT_AS_WRITTEN.format(self.settings))

    def remove(self) -> None:
        """Remove the run and no other files: its tables while the provenance names them, and the settings last.

        So nothing is ever left without the settings it belongs to. Tables that a damaged provenance does not name stay.
        """
        with contextlib.suppress(InputError):
            for name in self.digests() if self.provenance.exists() else ():
                table_file(self.folder, name).unlink(missing_ok=True)
        self.provenance.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        self.settings.unlink(missing_ok=True)
        self.remove_temporary()

    def remove_temporary(self) -> None:
        """Remove what a killed session was writing."""
        for file in self.folder.glob("*.tmp"):
            file.unlink(missing_ok=True)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what provenance.json holds with the SHA-256 of all of it, so that nobody trusts it once it is damaged."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    return {**rest, "digest": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def _digest(file: Path) -> str | None:
    """Return the SHA-256 of a file, None if there is none."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


@dataclass(frozen=True)
class Wanted:
    """The run that is asked for: what a record must agree with to be that run."""

    experiment: str
    settings: Any
    """A frozen dataclass."""
    device: str
    """The device, of which the kind matters: a GPU draws other random numbers."""
    code: Mapping[str, str]

    def described(self) -> dict[str, Any]:
        """Return what settings.json holds."""
        plain = json.loads(json.dumps({"experiment": self.experiment, "settings": dataclasses.asdict(self.settings)}))
        return {**plain, "device": self.device.partition(":")[0]}

    def check_settings(self, record: Record) -> None:
        """Raise `InputError`, which names the first difference, unless the record is of these settings."""
        if not record.settings.exists():
            raise InputError(f"{record.folder} holds a run without its settings.json; start again with --force")
        before = read_json(record.settings, "experiment", "settings", "device")
        if not isinstance(before["settings"], dict):
            raise InputError(f"{record.settings} is damaged (expected an object); start again with --force")
        old, new = (self._that_matter(described) for described in (before, self.described()))
        if name := first_difference(old, new) or first_difference(new, old):
            there, now = old.get(name, "absent"), new.get(name, "absent")
            raise InputError(
                f"{record.folder} holds a run with other settings ({name} = {there!r} there, {now!r} now); "
                "choose another --out, or replace it with --force"
            )

    def _that_matter(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """What is compared: the names and values of all settings but those that change no result."""
        known = fields_of(type(self.settings)) if isinstance(self.settings, Settings) else ()
        skipped = {field.name for field in known if not field.changes_results}
        flat = {**described, **described["settings"], "settings": None}
        return {name: value for name, value in flat.items() if name not in skipped}

    def is_of(self, record: Record) -> bool:
        """Return whether the record is of these settings and this code, and can be read."""
        try:
            self.check_settings(record)
            record.check_code(self.code)
        except InputError:
            return False
        return True
