"""facerec trains face-recognition models: photos, aligned crops, margin softmax, benchmarks, a model others load.

The names of the public API can be used as `facerec.<name>`; each is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from facerec.align.detectors import open_detector as open_detector
    from facerec.align.faces import Detector as Detector
    from facerec.align.faces import Faces as Faces
    from facerec.align.images import align_images as align
    from facerec.core.errors import CheckpointError as CheckpointError
    from facerec.core.errors import ConfigError as ConfigError
    from facerec.core.errors import DataError as DataError
    from facerec.core.errors import FacerecError as FacerecError
    from facerec.core.errors import ModelError as ModelError
    from facerec.core.errors import TrainingError as TrainingError
    from facerec.core.input_spec import InputSpec as InputSpec
    from facerec.core.metric import Metric as Metric
    from facerec.core.protocols import Embedder as Embedder
    from facerec.core.protocols import Evaluator as Evaluator
    from facerec.core.source import Source as Source
    from facerec.data.augment import Augment as Augment
    from facerec.data.loader import BatchLoader as BatchLoader
    from facerec.data.pair_choice import choose_pairs as choose_pairs
    from facerec.data.sampling.sampler import SampleOrder as SampleOrder
    from facerec.data.sources import FolderSource as FolderSource
    from facerec.data.sources import JoinedSource as JoinedSource
    from facerec.data.sources import ListSource as ListSource
    from facerec.data.sources import RecordSource as RecordSource
    from facerec.data.sources import Subset as Subset
    from facerec.data.sources import open_source as open_source
    from facerec.embedding.model import Model as Model
    from facerec.evaluation.roc import OperatingPoint as OperatingPoint
    from facerec.evaluation.roc import Roc as Roc
    from facerec.evaluation.verification import VerificationBenchmark as VerificationBenchmark
    from facerec.evaluation.verification import fold_accuracies as fold_accuracies
    from facerec.evaluation.verification import verification_metrics as verification_metrics
    from facerec.heads.a_softmax import ASoftmaxHead as ASoftmaxHead
    from facerec.heads.adacos import AdaCosHead as AdaCosHead
    from facerec.heads.adaface import AdaFaceHead as AdaFaceHead
    from facerec.heads.combined import MarginHead as MarginHead
    from facerec.heads.curricularface import CurricularFaceHead as CurricularFaceHead
    from facerec.heads.elasticface import ElasticFaceHead as ElasticFaceHead
    from facerec.heads.head import Head as Head
    from facerec.heads.magface import MagFaceHead as MagFaceHead
    from facerec.heads.mv_softmax import MVSoftmaxHead as MVSoftmaxHead
    from facerec.heads.options import HeadOptions as HeadOptions
    from facerec.heads.softmax import SoftmaxHead as SoftmaxHead
    from facerec.losses.angular_terms import Inter as Inter
    from facerec.losses.angular_terms import Intra as Intra
    from facerec.losses.centre_loss import CentreLoss as CentreLoss
    from facerec.losses.distillation import Distillation as Distillation
    from facerec.losses.objective import Objective as Objective
    from facerec.losses.term import Term as Term
    from facerec.losses.term import TermInputs as TermInputs
    from facerec.losses.triplet import Triplet as Triplet
    from facerec.networks.embedding_net import EmbeddingNet as EmbeddingNet
    from facerec.networks.embedding_net import join as join
    from facerec.networks.iresnet import IResNet as IResNet
    from facerec.networks.library import TimmBackbone as TimmBackbone
    from facerec.networks.library import TorchvisionBackbone as TorchvisionBackbone
    from facerec.networks.mobilefacenet import MobileFaceNet as MobileFaceNet
    from facerec.networks.neck import FCBNFCBN as FCBNFCBN
    from facerec.networks.neck import GDC as GDC
    from facerec.networks.neck import BNDropoutFCBN as BNDropoutFCBN
    from facerec.networks.neck import Neck as Neck
    from facerec.networks.vit import VisionTransformer as VisionTransformer
    from facerec.runs.run_log import RunLog as RunLog
    from facerec.synthetic.source import SyntheticSource as SyntheticSource
    from facerec.training.checkpoint import CheckpointStore as CheckpointStore
    from facerec.training.freezing import Freezing as Freezing
    from facerec.training.optimizer import SGD as SGD
    from facerec.training.optimizer import AdamW as AdamW
    from facerec.training.optimizer import Optimizer as Optimizer
    from facerec.training.schedule import Cosine as Cosine
    from facerec.training.schedule import Polynomial as Polynomial
    from facerec.training.schedule import Schedule as Schedule
    from facerec.training.schedule import StepDecay as StepDecay
    from facerec.training.schedule import WarmUp as WarmUp
    from facerec.training.settings import EvaluationPlan as EvaluationPlan
    from facerec.training.settings import TrainerSettings as TrainerSettings
    from facerec.training.trainer import Trainer as Trainer
    from facerec.training.trainer import TrainResult as TrainResult

__version__ = "0.1.0"

_MODULES = {
    "facerec.align.detectors": "open_detector",
    "facerec.align.faces": "Detector Faces",
    "facerec.core.errors": "CheckpointError ConfigError DataError FacerecError ModelError TrainingError",
    "facerec.core.input_spec": "InputSpec",
    "facerec.core.metric": "Metric",
    "facerec.core.protocols": "Embedder Evaluator",
    "facerec.core.source": "Source",
    "facerec.data.augment": "Augment",
    "facerec.data.loader": "BatchLoader",
    "facerec.data.pair_choice": "choose_pairs",
    "facerec.data.sampling.sampler": "SampleOrder",
    "facerec.data.sources": "FolderSource JoinedSource ListSource RecordSource Subset open_source",
    "facerec.embedding.model": "Model",
    "facerec.evaluation.roc": "OperatingPoint Roc",
    "facerec.evaluation.verification": "VerificationBenchmark fold_accuracies verification_metrics",
    "facerec.heads.a_softmax": "ASoftmaxHead",
    "facerec.heads.adacos": "AdaCosHead",
    "facerec.heads.adaface": "AdaFaceHead",
    "facerec.heads.combined": "MarginHead",
    "facerec.heads.curricularface": "CurricularFaceHead",
    "facerec.heads.elasticface": "ElasticFaceHead",
    "facerec.heads.head": "Head",
    "facerec.heads.magface": "MagFaceHead",
    "facerec.heads.mv_softmax": "MVSoftmaxHead",
    "facerec.heads.options": "HeadOptions",
    "facerec.heads.softmax": "SoftmaxHead",
    "facerec.losses.angular_terms": "Inter Intra",
    "facerec.losses.centre_loss": "CentreLoss",
    "facerec.losses.distillation": "Distillation",
    "facerec.losses.objective": "Objective",
    "facerec.losses.term": "Term TermInputs",
    "facerec.losses.triplet": "Triplet",
    "facerec.networks.embedding_net": "EmbeddingNet join",
    "facerec.networks.iresnet": "IResNet",
    "facerec.networks.library": "TimmBackbone TorchvisionBackbone",
    "facerec.networks.mobilefacenet": "MobileFaceNet",
    "facerec.networks.neck": "FCBNFCBN GDC BNDropoutFCBN Neck",
    "facerec.networks.vit": "VisionTransformer",
    "facerec.runs.run_log": "RunLog",
    "facerec.synthetic.source": "SyntheticSource",
    "facerec.training.checkpoint": "CheckpointStore",
    "facerec.training.freezing": "Freezing",
    "facerec.training.optimizer": "SGD AdamW Optimizer",
    "facerec.training.schedule": "Cosine Polynomial Schedule StepDecay WarmUp",
    "facerec.training.settings": "EvaluationPlan TrainerSettings",
    "facerec.training.trainer": "Trainer TrainResult",
}
"""Where the public names are defined."""
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = ["align", "load"]
__all__ += list(_PLACES)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562), so that `import facerec` stays fast."""
    import importlib

    if name == "align":
        return importlib.import_module("facerec.align")  # a room that can be called
    if name not in _PLACES:
        raise AttributeError(f"module 'facerec' has no attribute {name!r}")
    found = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    path: str,
    *,
    device: str = "auto",
    batch_size: int = 128,
    flip: bool = False,
    trust: "str | Sequence[str] | None" = None,
) -> "Model":
    """Opens a trained model: a run directory, a checkpoint, or InsightFace's weights (`.pt`, `.pth`, `.safetensors`).

    Args:
        path: path of the model; `runs/a@best` and `runs/a@step-400` choose a checkpoint of a run, else the last is
            taken. The result's `note`, which is logged too, says which it was.
        device: auto (CUDA, else CPU), cpu, cuda.
        batch_size: number of images in one forward pass.
        flip: sum the embeddings of an image and its mirror image, as the benchmarks do.
        trust: the package (or several) whose network classes the model may name. Opening such a model imports this
            package and runs its code. Without it, nothing outside facerec is imported or run.

    Returns:
        An object with `.embed(images)`, which embeds aligned crops, uint8 RGB, as float32 (B, 512), not normalised.
        Images are an array (B, 112, 112, 3), one (112, 112, 3), the path of a file, a PIL image, a torch tensor, or a
        list of these; for OpenCV's BGR, pass the view `image[..., ::-1]`. `facerec.align` makes crops from photos.

    Raises:
        facerec.core.errors.FacerecError: the model does not exist, is damaged, or names a class of a package that is
            not in `trust`.
    """
    from facerec.core.log import LOGGER
    from facerec.embedding.model import open_model

    model = open_model(path, device=device, batch_size=batch_size, flip=flip, trust=trust)
    if model.note:
        LOGGER.info("model %s", model.note)
    return model
