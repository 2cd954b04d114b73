"""The monitors on two ranks: equal to one process, and no obstacle to DDP."""

import json

import lightning as L
import pytest

from lightning_kd import Distillation
from lightning_kd.callbacks import CalibrationMonitor, FidelityMonitor, LossBalance
from lightning_kd.methods.logits.kd import KD


class Report(L.Callback):
    """Writes the logged values and a fingerprint of the weights, one file a rank."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        values = {
            name: value.item() for name, value in trainer.callback_metrics.items() if "/" in name and "kd/" not in name
        }
        values["weights"] = sum(parameter.double().sum().item() for parameter in pl_module.model.parameters())
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(values))


def fit(kit, folder, *, monitors=True, **options):
    folder.mkdir()
    watching = [CalibrationMonitor(), FidelityMonitor(layers={"1": "1"}), LossBalance(every_n_steps=1)]
    trainer = kit.trainer(
        Distillation(kit.teacher(), KD()), *(watching if monitors else []), Report(folder), max_epochs=1, **options
    )
    trainer.fit(kit.Student(), kit.loader(), kit.loader(seed=1, batch_size=11))
    return [json.loads(path.read_text()) for path in sorted(folder.iterdir())]


@pytest.mark.slow
def test_two_ranks(kit, tmp_path):
    ddp = {"strategy": "ddp_fork", "devices": 2}
    first, second = fit(kit, tmp_path / "watched", **ddp)
    assert first == second
    plain, _ = fit(kit, tmp_path / "plain", monitors=False, **ddp)
    assert first["weights"] == plain["weights"]
    assert {"calibration/ece", "fidelity/agreement", "fidelity/cka/1", "balance/ratio/KD"} <= set(first)


@pytest.mark.slow
def test_validation_equals_one_process(kit, tmp_path):
    # nothing is trained, so both validate the same student; 22 samples divide evenly
    options = {"limit_train_batches": 1, "gradient_clip_val": 1e-30}
    (alone,) = fit(kit, tmp_path / "alone", **options)
    together, _ = fit(kit, tmp_path / "together", strategy="ddp_fork", devices=2, **options)
    for name in ("ece", "adaptive_ece", "nll", "brier"):
        assert together[f"calibration/{name}"] == pytest.approx(alone[f"calibration/{name}"], rel=1e-4)
    for name in ("agreement", "kl", "agreement_teacher_right", "agreement_teacher_wrong"):
        assert together[f"fidelity/{name}"] == pytest.approx(alone[f"fidelity/{name}"], rel=1e-4)
