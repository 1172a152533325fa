"""The verbs of the command line, with the purpose and the module of each."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb, with its configuration in `configs/<name>.yaml`.

    Attributes:
        module: has `run(config: DictConfig, overrides: list[str]) -> int`, which returns the exit code. It may have
            `check(config: DictConfig) -> None`, which refuses wrong settings before anything is opened; grids call it
            for every trial before the first one starts. And `check_trials(configs: list[DictConfig]) -> list[int]`,
            which opens what these trials need, once, and returns the number of steps of each.
        summary: one line for the help.
        examples: command lines.
        multirun: True if `-m` runs a grid.
        first_keys: for a verb with very many keys, the keys and groups that people change first, in this order.
    """

    module: str
    summary: str
    examples: tuple[str, ...]
    multirun: bool = False
    first_keys: tuple[str, ...] = ()


VERBS = {
    "train": Verb(
        module="facerec.cli.verbs.train",
        summary="train a network, or resume the run in the run directory; -m runs a grid",
        examples=(
            "facerec train experiment=casia_r50_arcface data.root=/data/casia head.m2=0.45",
            "facerec train -m experiment=casia_r50_arcface head.m2=0.3,0.4,0.5 seed=1,2,3",
        ),
        multirun=True,
        first_keys=(
            "experiment",
            "data.root",
            "backbone",
            "head",
            "data.global_batch_size",
            "optimizer.lr",
            "trainer.num_epochs",
            "eval.sets",
            "run_dir",
            "launch.gpus",
        ),
    ),
    "evaluate": Verb(
        module="facerec.cli.verbs.evaluate",
        summary="evaluate a model on benchmarks",
        examples=("facerec evaluate model=runs/casia_r50_arcface/default 'sets=[lfw.bin,agedb_30.bin]'",),
    ),
    "align": Verb(
        module="facerec.cli.verbs.align",
        summary="align photos to face crops, by landmarks from a file or a detector",
        examples=(
            "facerec align photos=~/photos detector.weights=face_detection_yunet_2023mar.onnx out=~/crops",
            "facerec align landmarks=photos.csv out=~/crops",
        ),
    ),
    "pack": Verb(
        module="facerec.cli.verbs.pack",
        summary="pack face crops into a training set, and pairs into a verification set",
        examples=(
            "facerec pack data.root=~/crops split.val_identities=0.1 pairs=auto out=~/faces",
            "facerec pack data.root=~/lfw_crops pairs=pairs.txt out=lfw.bin",
        ),
    ),
    "inspect": Verb(
        module="facerec.cli.verbs.inspect",
        summary="check every image of a data set, and draw pictures of it",
        examples=("facerec inspect data.root=~/faces out=~/faces_report", "facerec inspect data.root=lfw.bin"),
    ),
    "clean": Verb(
        module="facerec.cli.verbs.clean",
        summary="find wrong labels, duplicate people and duplicate images; write a cleaner set",
        examples=(
            "facerec clean model=runs/ms1mv3_r50_arcface/default data.root=~/faces against=[lfw.bin] out=~/cleaning",
            "facerec clean data.root=~/faces out=~/cleaning apply=true",
        ),
    ),
    "report": Verb(
        module="facerec.cli.verbs.report",
        summary="gather the runs below a directory into a table",
        examples=("facerec report run_dir=runs/casia_r50_arcface",),
    ),
    "bench": Verb(
        module="facerec.cli.verbs.bench",
        summary="measure time and memory on this machine, or plan a training on another",
        examples=(
            "facerec bench suite=head num_classes=[100000]",
            "facerec bench suite=data data=on_disk data.root=/data/casia",
            "facerec bench suite=plan backbone=iresnet100 head.num_classes=10000000 launch.gpus=8",
        ),
    ),
}
