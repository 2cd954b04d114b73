"""Training with a teacher cache: the same students, without the teacher, and never a wrong entry."""

import lightning as L
import pytest
import torch
from cached_training import Student, fit, noise, samples
from support import CLASSES, difference, make_teacher
from torch import nn
from torch.utils.data import Subset

from lightning_kd import Teacher
from lightning_kd.cache.layout import Field
from lightning_kd.cache.records import CachedView, Selection
from lightning_kd.callbacks import LossBalance, TeacherCache
from lightning_kd.data import CutMixed, MixedUp
from lightning_kd.engine.exchange import View
from lightning_kd.methods import KD, RKD, AttentionTransfer, FitNet

TAPPED = {"layer2": "layer2"}


def methods():
    return [KD(temperature=2.0), FitNet(layers=TAPPED), RKD(layers={"fc:input": "fc:input"})]


@pytest.mark.parametrize("door", [1, 2])
def test_warm_cold_and_uncached_training_are_equal_bit_for_bit(tmp_path, door):
    plain = fit(door=door, methods=methods())
    cold = fit(TeacherCache(tmp_path, views=2, dtype="float32"), door=door, methods=methods())
    warm = fit(TeacherCache(tmp_path, dtype="float32"), door=door, methods=methods())
    assert difference(plain.student, cold.student) == 0
    assert difference(plain.student, warm.student) == 0
    # 24 samples in batches of 5; 2 of 4 epochs show views that have been seen
    assert cold.counts == (48, 48)
    assert warm.counts == (96, 0)
    dry_run = plain.calls - 20
    assert (cold.calls, warm.calls) == (dry_run + 10, dry_run)


def test_both_doors_share_entries(tmp_path):
    first = fit(TeacherCache(tmp_path, dtype="float32"), door=1)
    second = fit(TeacherCache(tmp_path, dtype="float32"), door=2)
    assert second.counts == (96, 0)
    assert second.calls == 0
    assert difference(first.student, second.student) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffled_batches_and_workers(tmp_path, workers):
    loader = {"shuffle": True, "num_workers": workers, "persistent_workers": workers > 0}
    kwargs = {"dataset": samples(views=3), "epochs": 3, "loader": loader}
    plain = fit(**{**kwargs, "dataset": samples(views=3)})
    cold = fit(TeacherCache(tmp_path, dtype="float32"), **{**kwargs, "dataset": samples(views=3)})
    warm = fit(TeacherCache(tmp_path, dtype="float32"), **{**kwargs, "dataset": samples(views=3)})
    assert (cold.counts, warm.counts, warm.calls) == ((0, 72), (72, 0), 0)
    assert difference(plain.student, cold.student) == difference(plain.student, warm.student) == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_the_same_cold_and_warm_and_near_full(tmp_path, dtype):
    plain = fit()
    cold, warm = (fit(TeacherCache(tmp_path, dtype=dtype)) for _ in range(2))
    assert warm.calls == 0
    assert difference(cold.student, warm.student) == 0
    assert 0 < difference(plain.student, cold.student) < (2e-3 if dtype == "float16" else 2e-2)


def test_float16_keeps_logits_within_the_stated_bound():
    logits = torch.cat([torch.randn(400) * 10.0**exponent for exponent in range(-9, 4)]).view(-1, 4)
    selection = Selection(torch.float16, True, None, ())
    fields = {field.name: field for field in selection.fields(selection.tensors(View(logits)))}
    stored = logits.to(torch.float16)
    kept = selection.view({"logits": stored}, fields, torch.device("cpu")).logits
    assert kept.dtype == torch.float32
    assert ((kept - logits).abs() <= logits.abs() * 2**-11 + 2**-25).all()
    assert isinstance(fields["logits"], Field)


def test_views_cycle_over_the_epochs(tmp_path):
    seen = []

    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append((cache.hits, cache.misses))

    cache = TeacherCache(tmp_path)
    fit(cache, dataset=samples(views=3), epochs=5, callbacks=[Watch()])
    assert seen == [(0, 24), (0, 48), (0, 72), (24, 72), (48, 72)]
    assert cache.filled == 1
    partly = TeacherCache(tmp_path, dtype="float32")
    fit(partly, dataset=samples(views=3), epochs=2)
    assert partly.filled == pytest.approx(2 / 3)
    assert TeacherCache(tmp_path).filled == 0


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"channels_last": True}])
def test_how_a_teacher_runs_is_part_of_the_key(tmp_path, options):
    fit(TeacherCache(tmp_path))
    economical = fit(TeacherCache(tmp_path), teacher=Teacher(make_teacher(), **options))
    again = fit(TeacherCache(tmp_path), teacher=Teacher(make_teacher(), **options))
    assert (economical.counts, again.counts) == ((48, 48), (96, 0))
    assert difference(economical.student, again.student) == 0


def test_a_teacher_that_would_start_ahead_does_not(tmp_path):
    plain = fit()
    runs = [
        fit(TeacherCache(tmp_path, dtype="float32"), teacher=Teacher(make_teacher(), overlap=True)) for _ in range(2)
    ]
    assert [run.calls for run in runs] == [10, 0]
    assert difference(plain.student, runs[0].student) == difference(plain.student, runs[1].student) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_fit_goes_on_with_its_view(tmp_path, workers):
    loader = {"num_workers": workers}
    whole = fit(TeacherCache(tmp_path / "cache", dtype="float32"), dataset=samples(views=3), epochs=3, loader=loader)
    checkpoint = L.pytorch.callbacks.ModelCheckpoint(tmp_path, filename="one", every_n_epochs=1)
    fit(dataset=samples(views=3), epochs=2, callbacks=[checkpoint], enable_checkpointing=True, loader=loader)
    resumed = fit(
        TeacherCache(tmp_path / "cache", dtype="float32"),
        dataset=samples(views=3),
        epochs=3,
        ckpt_path=tmp_path / "one.ckpt",
        loader=loader,
        student=Student(lr=0.02),
    )
    assert resumed.counts == (24, 0)
    assert whole.counts == (0, 72)


def test_a_second_fit_begins_with_the_first_view(tmp_path):
    dataset = samples(views=3)
    fit(TeacherCache(tmp_path), dataset=dataset, epochs=2)
    again = fit(TeacherCache(tmp_path), dataset=dataset, epochs=2)
    assert again.counts == (48, 0)


class Doubled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, image):
        return noise(image) * self.factor


def other_teacher():
    teacher = make_teacher()
    with torch.no_grad():
        teacher.fc.bias[0] += 1e-4
    return teacher


CHANGES = {
    "teacher": lambda: {"teacher": other_teacher()},
    "buffer": lambda: {"teacher": buffered()},
    "transform": lambda: {"dataset": samples(transform=Doubled(2.0))},
    "transform's setting": lambda: {"dataset": samples(transform=Doubled(2.0))},
    "seed": lambda: {"dataset": samples(seed=1)},
    "views": lambda: {"dataset": samples(views=4)},
    "data": lambda: {"dataset": samples(count=20)},
    "taps": lambda: {"methods": [KD(), FitNet(layers=TAPPED)]},
    "no logits": lambda: {"methods": FitNet(layers=TAPPED)},
    "precision": lambda: {"precision": "bf16-mixed"},
    "logits": lambda: {"distillation": {"logits": lambda output: output * 2}},
    "mixing": lambda: {"dataset": MixedUp(samples(), CLASSES), "student": SoftStudent()},
}


def buffered():
    teacher = make_teacher()
    teacher.layer1.bn1.running_mean += 0.1
    return teacher


class SoftStudent(Student):
    def __init__(self):
        super().__init__(lr=0.02)


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_a_miss(tmp_path, change):
    original = {"dataset": samples(transform=Doubled(1.0))} if change == "transform's setting" else {}
    first = fit(TeacherCache(tmp_path), epochs=2, **original)
    assert first.counts == (0, 48)
    changed = fit(TeacherCache(tmp_path), epochs=2, **CHANGES[change]())
    assert changed.counts[0] == 0
    assert changed.cache.directories != first.cache.directories
    back = fit(TeacherCache(tmp_path), epochs=2, **original)
    assert back.counts == (48, 0)


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"dtype": "bfloat16"}])
def test_another_storage_type_is_a_miss(tmp_path, options):
    fit(TeacherCache(tmp_path), epochs=1)
    assert fit(TeacherCache(tmp_path, **options), epochs=1).counts == (0, 24)


def test_layers_alone(tmp_path):
    runs = [fit(cache, methods=AttentionTransfer(layers=TAPPED)) for cache in (None, *caches(tmp_path, 2))]
    assert runs[2].calls == runs[0].calls - 20
    assert difference(runs[0].student, runs[2].student) == 0
    reader = runs[2].cache._readers[0]
    assert [field.name for field in reader.store.layout.fields] == ["features/layer2"]


def caches(tmp_path, count, **options):
    return [TeacherCache(tmp_path, **{"dtype": "float32", **options}) for _ in range(count)]


def test_several_teachers(tmp_path):
    def teachers():
        return [make_teacher(), other_teacher()]

    runs = [fit(cache, teacher=teachers()) for cache in (None, *caches(tmp_path, 2))]
    assert [run.calls for run in runs] == [40, 20, 0]
    assert len(set(runs[2].cache.directories)) == 2
    assert difference(runs[0].student, runs[1].student) == difference(runs[0].student, runs[2].student) == 0


class Wrapped(nn.Module):
    """A teacher whose output is a dictionary of its own kind."""

    def __init__(self):
        super().__init__()
        self.inner = make_teacher()

    def forward(self, x):
        return {"scores": self.inner(x), "extra": None}


def test_logits_found_by_a_function(tmp_path):
    def scores(output):
        return output["scores"] if isinstance(output, dict) else output

    runs = [fit(cache, teacher=Wrapped(), distillation={"logits": scores}) for cache in (None, *caches(tmp_path, 2))]
    assert runs[2].calls == 0
    assert difference(runs[0].student, runs[2].student) == 0


@pytest.mark.parametrize("kind", [MixedUp, CutMixed])
def test_mixed_samples(tmp_path, kind):
    runs = [
        fit(cache, dataset=kind(samples(), CLASSES), student=SoftStudent(), epochs=3)
        for cache in (None, *caches(tmp_path, 2))
    ]
    assert runs[2].counts == (72, 0)


def test_mixed_students_are_equal(tmp_path):
    students = []
    for cache in (None, *caches(tmp_path, 2)):
        torch.manual_seed(3)
        students.append(fit(cache, dataset=MixedUp(samples(), CLASSES), student=SoftStudent()).student)
    assert difference(students[0], students[1]) == difference(students[0], students[2]) == 0


def test_a_subset_of_the_data(tmp_path):
    dataset = samples()
    fit(TeacherCache(tmp_path), dataset=Subset(dataset, range(3, 20)), epochs=2)
    # the other samples are missing: batches that hold one are computed
    assert fit(TeacherCache(tmp_path), dataset=Subset(samples(), range(3, 13)), epochs=2).counts == (20, 0)
    assert fit(TeacherCache(tmp_path), epochs=1).counts == (15, 9)


def test_half_filled_batches_are_computed_whole(tmp_path):
    fit(TeacherCache(tmp_path, dtype="float32"), dataset=Subset(samples(), range(0, 24, 2)))
    plain, filled = fit(), fit(TeacherCache(tmp_path, dtype="float32"))
    assert difference(plain.student, filled.student) == 0
    assert fit(TeacherCache(tmp_path, dtype="float32")).calls == 0


def test_it_works_beside_other_callbacks_and_leaves_nothing_behind(tmp_path):
    cache = TeacherCache(tmp_path)
    fit(cache, callbacks=[LossBalance(every_n_steps=2)])
    assert all(not reader.store._shards for reader in cache._readers)
    with pytest.raises(RuntimeError, match="stopped on purpose"):
        fit(cache, callbacks=[Interrupt()])
    assert all(not reader.store._shards for reader in cache._readers if reader.store)
    assert fit(cache).counts == (96, 0)


class Interrupt(L.Callback):
    def on_train_batch_end(self, *args):
        raise RuntimeError("stopped on purpose")


def test_cached_views_say_what_they_lack():
    view = CachedView({"a": torch.zeros(2)})
    with pytest.raises(RuntimeError, match="were not kept"):
        _ = view.logits
    assert CachedView({}, logits=torch.ones(2, 3)).output.shape == (2, 3)
    assert "features=['a']" in repr(view)
    with pytest.raises(KeyError, match="'b' did not fire"):
        view.feature("b")
