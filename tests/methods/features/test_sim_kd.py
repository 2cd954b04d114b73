import copy
import io

import pytest
import torch
from support import loader, make_student, trainer
from torch import nn

from lightning_kd import Distillation
from lightning_kd.methods.features import SimKD
from lightning_kd.testing.networks import TinyCNN
from lightning_kd.testing.rig import Rig


@pytest.fixture
def rig():
    return Rig(SimKD)


def test_matches_the_formula(maps, build, exchange, agree):
    student, teacher = maps((4, 3, 4, 4), grad=True), maps((4, 6, 2, 2))
    head = nn.Linear(6, 3).double()
    logits = head(teacher[0].mean((2, 3))).detach()
    method = build(SimKD(), student, teacher, head, logits)
    pooled = torch.nn.functional.avg_pool2d(student[0], 2)
    agree(method(exchange(student, teacher)), (method.projector(pooled) - teacher[0]).pow(2).mean(), student)


def test_the_projector_is_a_bottleneck_of_the_given_factor(maps, build):
    student, teacher = maps((4, 3, 4, 4)), maps((4, 8, 4, 4))
    head = nn.Linear(8, 3).double()
    method = build(SimKD(factor=4), student, teacher, head, head(teacher[0].mean((2, 3))).detach())
    convolutions = [module for module in method.projector if isinstance(module, nn.Conv2d)]
    sizes = [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions]
    assert sizes == [(3, 2, 1), (2, 2, 3), (2, 8, 1)]


def test_the_deployed_student_predicts_with_the_teachers_classifier(rig):
    images, _ = rig.batch()
    rig.student.eval()
    rig.method.eval()
    deployed = rig.method.deploy(rig.student)
    backbone = nn.Sequential(*list(rig.student.children())[:-2])
    feature = backbone(images)
    expected = rig.teacher.fc(rig.method.projector(feature).mean((2, 3)))
    hooks = len(rig.student.layer3._forward_hooks)
    torch.testing.assert_close(deployed(images), expected)
    assert len(rig.student.layer3._forward_hooks) == hooks


def test_the_deployed_student_is_self_contained(rig):
    """It pickles, copies and loads without the teacher or the method."""
    images, _ = rig.batch()
    network = TinyCNN((8, 12, 16), 2)
    deployed = rig.method.deploy(network).eval()
    expected = deployed(images)
    buffer = io.BytesIO()
    torch.save(deployed, buffer)
    buffer.seek(0)
    copied = copy.deepcopy(deployed)
    with torch.no_grad():
        for parameter in (*network.parameters(), *rig.method.parameters(), *rig.teacher.parameters()):
            parameter.zero_()
    assert torch.equal(torch.load(buffer, weights_only=False)(images), expected)
    assert torch.equal(copied(images), expected)


def test_the_teachers_classifier_is_no_parameter(rig):
    names = [name for name, _ in rig.method.named_parameters()]
    assert names
    assert not any("classifier" in name for name in names)
    assert torch.equal(rig.method.classifier.weight, rig.teacher.fc.weight)


def test_penultimate_features_work_too():
    rig = Rig(lambda: SimKD(layers="penultimate"))
    images, _ = rig.batch()
    deployed = rig.method.deploy(rig.student)
    assert deployed(images).shape == (8, 5)


class PreActivated(TinyCNN):
    """As in wide residual networks, batch norm and ReLU follow the last stage."""

    def __init__(self):
        super().__init__(stem_stride=1)
        self.bn = nn.BatchNorm2d(self.fc.in_features)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(self.act(self.bn(x)).mean((2, 3)))


def test_the_map_that_the_teachers_classifier_averages_is_found_behind_the_last_stage():
    torch.manual_seed(0)
    teacher, student, method = PreActivated(), make_student(), SimKD()
    teacher.bn.bias.data.uniform_(-1, 1)
    trainer(callbacks=[Distillation(teacher, method, task_weight=0.0)], max_steps=2).fit(student, loader())
    assert method.pairs == [("layer3", "act")]
    images = torch.randn(4, 3, 16, 16)
    method.projector = nn.Identity()
    # the teacher deployed on itself, with nothing in between, is the teacher
    whole = method.deploy(teacher.eval())
    whole.tap = "act"
    torch.testing.assert_close(whole(images), teacher(images))


def test_a_teacher_with_layers_before_its_classifier_is_refused(maps, build):
    student, teacher = maps((4, 3, 4, 4)), maps((4, 6, 4, 4))
    with pytest.raises(ValueError, match='use layers="penultimate"'):
        build(SimKD(), student, teacher, nn.Linear(6, 3).double(), torch.full((4, 3), 9.0).double())
    with pytest.raises(ValueError, match='use layers="penultimate"'):
        build(SimKD(), student, teacher, nn.Linear(6, 3).double(), torch.full((4, 3), 1e-3).double())
    with pytest.raises(ValueError, match="no linear classifier from 6 features to 3 classes"):
        build(SimKD(), student, teacher, TinyCNN())


def test_a_pointwise_convolution_is_a_classifier(maps, build):
    student, teacher = maps((4, 3, 4, 4)), maps((4, 6, 4, 4))
    head = nn.Conv2d(6, 3, 1).double()
    method = build(SimKD(), student, teacher, head, head(teacher[0]).mean((2, 3)).detach())
    torch.testing.assert_close(method.classifier(teacher[0].mean((2, 3))), head(teacher[0]).mean((2, 3)))
