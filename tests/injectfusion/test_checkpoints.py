"""Files that are not the tensors of one network are refused in one line, and their code never runs."""

import argparse
import gzip
import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from injectfusion.core.checkpoints import read_checkpoint
from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError

STATE = {"conv.weight": torch.ones(3, 2), "conv.bias": torch.zeros(2)}


def saved(value: object, legacy: bool = False) -> bytes:
    """What torch.save writes, today or before PyTorch 1.6."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("folder/net.pt", b"...")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("net.pt"))
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(1, 1)), buffer)
    return buffer.getvalue()


class Bomb:
    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors", ""])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_the_content_decides_not_the_name(form: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    save_file(STATE, path) if form == "safetensors" else path.write_bytes(saved(STATE, form == "legacy"))
    read = read_checkpoint(path)
    assert read.keys() == STATE.keys() and all(torch.equal(read[name], tensor) for name, tensor in STATE.items())


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty, or begins with zeros"),
    "zeros": (bytes(9000), "is empty, or begins with zeros"),
    "half": (saved(STATE)[:-500], "is damaged or incomplete"),
    "half, legacy": (saved(STATE, legacy=True)[:-10], "is damaged or incomplete"),
    "web page": (b"\xef\xbb\xbf\n<HTML><body>Quota exceeded", "is a web page"),
    "XML": (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "pointer of Git LFS.*git lfs pull"),
    "text": (b'{"error": "quota"}', "is a text file.*begins with.*quota"),
    "zip": (zipped(), "is a zip archive.*unpack it"),
    "tar": (tarred(), "is a tar archive.*unpack it"),
    "gzip": (gzip.compress(saved(STATE)), "is a gzip archive.*unpack it"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is not a checkpoint"),
    "TorchScript": (scripted(), "is a TorchScript program"),
    "module": (saved(nn.Linear(1, 1)), r"holds pickled code \(torch\.nn\.modules\.linear\.Linear\), which is refused"),
    "arguments": (saved({"model": STATE, "args": argparse.Namespace()}), r"pickled code \(argparse\.Namespace\)"),
    "bomb": (saved(Bomb()), "holds pickled code"),
    "pickled bomb": (pickle.dumps(Bomb()), "holds pickled code"),
    "oldest pickle": (pickle.dumps(Bomb(), protocol=0), "is a text file"),
    "nested": (saved({"state_dict": STATE, "epoch": 3}), r"keys state_dict, epoch, .* under 'state_dict': save one"),
    "list": (saved([STATE, {}, 3, STATE]), r"holds a list, .* under 0 and 3: save one .*weights_only=True\)\[0\]"),
    "more than tensors": (saved(STATE | {"epoch": 3}), "keys conv.weight, conv.bias, epoch, not the tensors of one"),
    "tensor": (saved(torch.ones(2)), "holds a Tensor, not the tensors of one network"),
    "nothing": (saved({}), "holds an empty dict"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_other_files_are_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = WRONG[kind]
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(UserError, match=message) as refused, warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning is another line
        read_checkpoint(tmp_path / "net.pt")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "exploded").exists()


def test_a_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder, not a checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_files_damaged_anywhere_are_read_or_refused(form: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    save_file(STATE, path) if form == "safetensors" else path.write_bytes(saved(STATE, form == "legacy"))
    whole, generator = path.read_bytes(), torch.Generator().manual_seed(0)

    def below(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    refused = 0
    for cut in [True, False] * 50:
        content = bytearray(whole[: below(len(whole))] if cut else whole)
        for _ in range(3 if content else 0):
            content[below(len(content))] = below(256)
        path.write_bytes(content)
        try:
            state: dict[str, Tensor] = read_checkpoint(path)
            assert state
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused >= 50


@pytest.mark.parametrize("name", ["nonsense", "", "meta", "cuda:99", "cuda:-1", "xpu", "hpu", "opengl"])
def test_a_device_that_cannot_be_used_is_one_short_line(name: str) -> None:
    with pytest.raises(UserError, match=r"device .* is not available here; use cpu.* or auto") as refused:
        resolve_device(name)
    assert len(str(refused.value)) < 200
    assert resolve_device("auto") in ("cpu", "cuda")
    assert resolve_device("cpu") == "cpu"
