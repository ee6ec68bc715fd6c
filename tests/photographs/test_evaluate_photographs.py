"""The commands that measure the encoders and make their statistics, on a made-up folder; the shipped model card."""

import json
from pathlib import Path

import pytest
import torch
from made_up_celeba import write_celeba
from torch import Tensor

from metrics.encoders.base import Provenance
from metrics.frechet import Statistics
from photographs import evaluate, statistics
from photographs.encoders import EVALUATION, NETWORK, WEIGHTS, load_network
from photographs.networks.attributes import LABELS
from photographs.training.card import BEGIN, END, numbers, write_numbers
from photographs.training.crops import Crops
from photographs.training.measures import identity_measure, label_measures

N = 70


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("celeba")
    write_celeba(folder, N)
    return folder


def test_evaluate_writes_the_numbers_and_the_card(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "TRAINING", range(1, 5))
    monkeypatch.setattr(evaluate, "UNSEEN", range(5, 17))
    card = tmp_path / "README.md"
    card.write_text(f"# Card\n\n{BEGIN}\nold numbers\n{END}\n\n## Terms\n")
    data = ["--images", str(folder), "--labels", str(folder / "list_attr_celeba.txt")]
    data += ["--identities", str(folder / "identity_CelebA.txt"), "--out", str(tmp_path)]
    evaluate.main(data)
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["attributes"]["labels"].keys() == set(LABELS)
    assert record["attributes"]["labels"]["Bald"]["n"] == 12
    assert (record["identity"]["n"], record["identity"]["pairs"]) == (16, 8)
    assert record["attributes"]["weights_sha256"] == json.loads((WEIGHTS / "sha256.json").read_text())[NETWORK.name]
    assert card.read_text() == f"# Card\n\n{numbers(record)}\n\n## Terms\n"
    assert "Narrow_Eyes" in capsys.readouterr().out
    (folder / "few.txt").write_text("000001.jpg 1\n000002.jpg 2\n")
    with pytest.raises(SystemExit) as ended:
        evaluate.main([*data, "--identities", str(folder / "few.txt")])
    assert ended.value.code == 2
    assert "few.txt does not name the person of 000003.jpg" in capsys.readouterr().err


def test_the_card_is_created_if_it_is_missing(tmp_path: Path) -> None:
    record = json.loads(EVALUATION.read_text())
    for _ in range(2):
        write_numbers(tmp_path / "README.md", record)
        assert (tmp_path / "README.md").read_text() == numbers(record) + "\n"


def test_the_shipped_card_has_the_shipped_numbers() -> None:
    record = json.loads(EVALUATION.read_text())
    assert numbers(record) in (WEIGHTS / "README.md").read_text()
    assert record["attributes"]["labels"]["Smiling"]["n"] == 1000


def test_the_shipped_encoders_are_as_good_as_they_should_be() -> None:
    record = json.loads(EVALUATION.read_text())
    auc = {label: measure["auc"] for label, measure in record["attributes"]["labels"].items()}
    assert min(auc[label] for label in ("Smiling", "Eyeglasses", "Heavy_Makeup", "Blond_Hair")) > 0.93
    assert record["identity"]["auc"] > 0.95


def test_statistics_are_those_of_the_features(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(statistics, "TRAINING", range(1, N + 1))
    statistics.main(["--images", str(folder), "--out", str(tmp_path)])
    written = Statistics.read(tmp_path / "celeba_statistics.safetensors")
    assert (written.images, written.name) == (N, f"CelebA 000001 to {N:06d}")
    assert f"{N} images" in capsys.readouterr().out
    assert "celeba_statistics.safetensors" in json.loads((tmp_path / "sha256.json").read_text())


def test_label_measures_of_known_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_network()
    network.log_odds.fill_(-2)
    # Scores of the four images: present at 0 and -1, absent at -1.5 and -3. Both are above the frequency's -2, or not.
    logits = torch.tensor([0.0, -1.0, -1.5, -3.0])[:, None].expand(4, 40)
    monkeypatch.setattr(network, "read", lambda images: (images, logits))
    labels = torch.tensor([1.0, 1, 0, 0])[:, None].expand(4, 40).clone()
    labels[:, 1] = torch.tensor([1.0, 0, 1, 0])
    measures = label_measures(network, Crops(torch.zeros(4, 3, 64, 64, dtype=torch.uint8), labels))
    first, second = measures[:2]
    assert (first.auc, first.accuracy, first.balanced, first.present, first.n) == (1, 0.5, 0.75, 2, 4)
    assert second.auc == 0.75


class ByColor:
    """An identity encoder that knows persons by the red of the first pixel."""

    provenance = Provenance("by color", "1", "0" * 64, 64)
    dimension = 3

    def __call__(self, images: Tensor) -> Tensor:
        return torch.eye(3)[images[:, 0, 0, 0].long()]


def test_identity_measure_of_known_persons() -> None:
    images = torch.zeros(6, 3, 64, 64, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor([0, 0, 1, 1, 2, 2])
    measure = identity_measure(ByColor(), images, torch.tensor([7, 7, 8, 8, 9, 9]))
    assert (measure.auc, measure.same, measure.different, measure.pairs, measure.n) == (1, 1, 0, 3, 6)
    wrong = identity_measure(ByColor(), images, torch.tensor([7, 8, 7, 8, 9, 9]))
    assert (wrong.same, wrong.pairs) == (pytest.approx(1 / 3), 3)
    assert wrong.auc < 1
