"""GFL with a ResNet-18, which mmdet's own configs lack."""

_base_ = ["mmdet::gfl/gfl_r50_fpn_1x_coco.py"]
model = {
    "backbone": {"depth": 18, "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}},
    "neck": {"in_channels": [64, 128, 256, 512]},
}
