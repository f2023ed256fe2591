"""Whether the text of a file tells that it trains something of usual size: words of it, comments among them."""

from __future__ import annotations

_TOLD = (
    # the mean and the deviation of the first colour of ImageNet, which photographs are normalised by
    b"0.485", b"0.229", b"IMAGENET", b"ImageNet", b"Imagenet", b"imagenet",
    # weights that another training left
    b"pretrained=True", b"pretrained = True", b"from_pretrained", b"load_url",
    b"load_state_dict_from_url", b"_Weights.",
    # photographs and films
    b"coco", b"COCO", b"cityscapes", b"Cityscapes", b"kinetics", b"Kinetics", b"ade20k", b"ADE20K", b"celeba",
    b"CelebA", b"ffhq", b"FFHQ", b"div2k", b"DIV2K", b"kitti", b"KITTI", b"VOCdevkit", b"VOC2012", b"PascalVOC",
    b"pascal_voc", b"laion", b"LAION", b"openimages", b"Places365", b"lsun", b"LSUN",
)  # fmt: skip
_OPTIONS = (
    b"argparse", b"ArgumentParser", b"yaml", b"yacs", b"hydra", b"omegaconf", b"absl", b"import click", b"import fire",
    b"tyro", b"docopt", b"gin.",
)  # fmt: skip


def is_of_usual_size(text: bytes) -> bool:
    """It names photographs, or weights that were trained on such or on the texts of the world."""
    return any(word in text for word in _TOLD)


def takes_options(text: bytes) -> bool:
    """It reads a command line or settings: a program that is run, rather than a note of how one could train."""
    return any(word in text for word in _OPTIONS)
