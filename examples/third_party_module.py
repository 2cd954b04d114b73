"""Distil LightningModules that come with other libraries, without touching either: three lines each.

The first classifies digits with `ClassificationRoutine` of torch-uncertainty, the second forecasts a time series with
`DecoderMLP` of pytorch-forecasting. Neither knows of distillation; both keep their losses, metrics and optimizers.

Run it with ``python examples/third_party_module.py``; it takes about twenty seconds on one CPU core and no network. It
needs ``pip install torch-uncertainty pytorch-forecasting scikit-learn``. Small problems and one seed: the tables show
that it works, not how much it brings.
"""

from __future__ import annotations

import logging
import warnings

import lightning as L
import numpy as np
import pandas as pd
import torch
from pytorch_forecasting import DecoderMLP, TimeSeriesDataSet
from pytorch_forecasting.metrics import RMSE
from rich.console import Console
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch_uncertainty.routines import ClassificationRoutine

from lightning_kd import Distillation
from lightning_kd.methods import KD, FitNet

# --- a classifier of torch-uncertainty ---


def digits() -> tuple[DataLoader, DataLoader]:
    """A hundred digits to learn from, the rest to test on."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    train, test = torch.utils.data.random_split(data, [100, len(data) - 100], torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size=20, shuffle=True), DataLoader(test, batch_size=1024)


def classifier(width: int) -> ClassificationRoutine:
    """An MLP in torch-uncertainty's routine, which trains it and measures accuracy, calibration and more."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    return ClassificationRoutine(network, num_classes=10, loss=nn.CrossEntropyLoss(), optim_recipe=optimizer)


def distil_classifier(epochs: int) -> dict[str, dict[str, float]]:
    """Test accuracy and calibration error of the teacher, the student alone, and the student with its teacher."""
    train, test = digits()

    def score(module: ClassificationRoutine) -> dict[str, float]:
        found = trainer(epochs).test(module, test, verbose=False)[0]
        return {"accuracy": found["test/cls/Acc"], "ECE": found["test/cal/ECE"]}

    teacher, alone, student = classifier(256), classifier(8), classifier(8)
    trainer(epochs).fit(teacher, train)
    trainer(epochs).fit(alone, train)

    # docs: three lines
    distillation = Distillation(teacher, method=KD(temperature=4, weight=0.9), task_weight=0.1)
    run = trainer(epochs, distillation)
    run.fit(student, train)

    return {"teacher": score(teacher), "student alone": score(alone), "student distilled": score(student)}


# --- a forecaster of pytorch-forecasting ---


def series() -> tuple[TimeSeriesDataSet, TimeSeriesDataSet]:
    """Noisy daily sales that depend on weekday and temperature: two years to learn from, ten weeks to forecast."""
    random, days = np.random.default_rng(0), np.arange(800)
    temperature = random.uniform(-2, 2, len(days))
    sales = np.sin(2 * np.pi * days / 7) + np.sin(2 * temperature) + 0.3 * random.standard_normal(len(days))
    frame = pd.DataFrame({"day": days, "weekday": (days % 7).astype(str), "temperature": temperature, "sales": sales})
    frame["shop"] = "a"
    train = TimeSeriesDataSet(
        frame[:730],
        time_idx="day",
        target="sales",
        group_ids=["shop"],
        max_encoder_length=14,
        max_prediction_length=7,
        time_varying_known_reals=["temperature"],
        time_varying_known_categoricals=["weekday"],
    )
    return train, TimeSeriesDataSet.from_dataset(train, frame, min_prediction_idx=730)


def forecaster(data: TimeSeriesDataSet, width: int, depth: int) -> DecoderMLP:
    """pytorch-forecasting's MLP, which brings its own optimizer, loss and embeddings."""
    torch.manual_seed(0)
    return DecoderMLP.from_dataset(
        data, hidden_size=width, n_hidden_layers=depth, dropout=0.0, loss=RMSE(), learning_rate=0.01, optimizer="adam"
    )


def distil_forecaster(epochs: int) -> dict[str, dict[str, float]]:
    """Error of the forecasts of the teacher, the student alone, and the student with its teacher."""
    train_data, test_data = series()
    torch.manual_seed(0)
    train = train_data.to_dataloader(train=True, batch_size=128, num_workers=0)
    test = test_data.to_dataloader(train=False, batch_size=64, num_workers=0)

    def score(module: DecoderMLP) -> dict[str, float]:
        return {"RMSE": trainer(epochs).validate(module, test, verbose=False)[0]["val_RMSE"]}

    teacher, alone, student = forecaster(train_data, 64, 3), forecaster(train_data, 8, 1), forecaster(train_data, 8, 1)
    trainer(epochs).fit(teacher, train)
    trainer(epochs).fit(alone, train)

    # docs: three lines; a forecaster has no logits, so its hidden layer follows the teacher's
    hint = FitNet(layers={"mlp.sequential.0": "mlp.sequential.0"}, weight=1.0)
    run = trainer(epochs, Distillation(teacher, method=hint))
    run.fit(student, train)

    return {"teacher": score(teacher), "student alone": score(alone), "student distilled": score(student)}


# --- both ---


def trainer(epochs: int, *callbacks: L.Callback) -> L.Trainer:
    """A quiet Trainer on the CPU."""
    L.seed_everything(0, verbose=False)
    return L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def main(epochs: int = 30) -> dict[str, dict[str, dict[str, float]]]:
    """Run both and print their scores."""
    warnings.filterwarnings("ignore", module=r"lightning\..*|torch_uncertainty\..*|pytorch_forecasting\..*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    scores = {"classifier": distil_classifier(epochs), "forecaster": distil_forecaster(max(1, epochs // 5))}
    for name, networks in scores.items():
        Console().print(f"[bold]{name}[/bold]")
        for network, values in networks.items():
            Console().print(f"  {network:<18}", ", ".join(f"{key} {value:.3f}" for key, value in values.items()))
    return scores


if __name__ == "__main__":
    main()
