"""The names of `import facerec`: all there, the same objects as in their rooms, and the same for type checkers."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import facerec

NAMES = set(
    [
        "align",
        "load",
        "open_detector",
        "Detector",
        "Faces",
        "CheckpointError",
        "ConfigError",
        "DataError",
        "FacerecError",
        "ModelError",
        "TrainingError",
        "InputSpec",
        "Metric",
        "Embedder",
        "Evaluator",
        "Source",
        "Augment",
        "BatchLoader",
        "SampleOrder",
        "choose_pairs",
        "FolderSource",
        "JoinedSource",
        "ListSource",
        "RecordSource",
        "Subset",
        "SyntheticSource",
        "open_source",
        "Model",
        "OperatingPoint",
        "Roc",
        "VerificationBenchmark",
        "fold_accuracies",
        "verification_metrics",
        "Head",
        "HeadOptions",
        "ASoftmaxHead",
        "AdaCosHead",
        "AdaFaceHead",
        "MarginHead",
        "CurricularFaceHead",
        "ElasticFaceHead",
        "MagFaceHead",
        "MVSoftmaxHead",
        "SoftmaxHead",
        "Objective",
        "Term",
        "TermInputs",
        "CentreLoss",
        "Distillation",
        "Inter",
        "Intra",
        "Triplet",
        "EmbeddingNet",
        "join",
        "IResNet",
        "MobileFaceNet",
        "VisionTransformer",
        "TimmBackbone",
        "TorchvisionBackbone",
        "Neck",
        "BNDropoutFCBN",
        "FCBNFCBN",
        "GDC",
        "Trainer",
        "TrainResult",
        "TrainerSettings",
        "EvaluationPlan",
        "CheckpointStore",
        "RunLog",
        "Freezing",
        "Optimizer",
        "SGD",
        "AdamW",
        "Schedule",
        "WarmUp",
        "Polynomial",
        "Cosine",
        "StepDecay",
    ]
)


def test_no_public_name_has_disappeared_and_none_came_unnoticed():
    """A name that is removed or renamed breaks users' programs: this list changes only together with CHANGELOG."""
    assert set(facerec.__all__) == NAMES and len(facerec.__all__) == len(NAMES)
    assert set(dir(facerec)) >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES - {"align", "load"}))
def test_name_is_the_object_of_its_room(name):
    found = getattr(facerec, name)
    assert callable(found) and found.__module__.startswith("facerec.") and found.__name__ == name
    assert inspect.getdoc(found), "a public name has a docstring"


def test_every_head_network_and_term_that_ships_is_public():
    from facerec.networks.embedding_net import BACKBONES, NECKS

    shipped = {cls.__name__ for cls in [*BACKBONES.values(), *NECKS.values()]}
    for room in ("heads", "losses"):
        for path in (Path(facerec.__file__).parent / room).glob("*.py"):
            module = importlib.import_module(f"facerec.{room}.{path.stem}")
            bases = (facerec.Head, facerec.Term)
            shipped |= {
                name
                for name, cls in vars(module).items()
                if inspect.isclass(cls) and issubclass(cls, bases) and cls.__module__ == module.__name__
            }
    assert len(shipped) > 15 and shipped <= NAMES


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse(Path(facerec.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert set(seen) == NAMES - {"load"}
    for name in NAMES - {"load", "align"}:
        assert getattr(importlib.import_module(seen[name]), name) is getattr(facerec, name)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'facerec' has no attribute 'IResnet'"):
        facerec.IResnet  # noqa: B018


def test_names_are_imported_one_by_one_on_first_use():
    code = (
        "import sys, facerec; dir(facerec); facerec.ConfigError;"
        "assert 'facerec.core.errors' in sys.modules and not {'torch', 'numpy', 'cv2'} & set(sys.modules);"
        "facerec.align; assert not {'torch', 'numpy', 'cv2'} & set(sys.modules);"
        "facerec.Roc; assert 'numpy' in sys.modules and 'facerec.training' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(facerec.__file__).parents[1])


def test_align_is_the_function_whatever_was_imported_before():
    code = (
        "import facerec.align.crops, facerec, numpy as np;"
        "from facerec.align.similarity import template;"
        "photo = np.full((112, 112, 3), 7, np.uint8);"
        "crop = facerec.align(photo, landmarks=template(112, 112));"
        "assert (crop == photo).all() and facerec.align.crops.align_crop"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(facerec.__file__).parents[1])
