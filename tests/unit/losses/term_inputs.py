"""What terms are given in tests: embeddings, and optionally class centres with the cosines to them."""

import torch
import torch.nn.functional as F

from facerec.heads.centres import ClassCentres
from facerec.losses.term import TermInputs


def term_inputs(
    emb_BD: torch.Tensor,
    labels: list[int] | torch.Tensor,
    *,
    weight_CD: torch.Tensor | None = None,
    images: torch.Tensor | None = None,
) -> TermInputs:
    """`TermInputs`; with centres where `weight_CD` is given, which then takes the gradient in `centres.weight`."""
    labels_B = torch.as_tensor(labels)
    centres, target_cos_B = None, None
    if weight_CD is not None:
        centres = ClassCentres(num_classes=len(weight_CD), embedding_dim=weight_CD.shape[1]).to(weight_CD.dtype)
        with torch.no_grad():
            centres.weight.copy_(weight_CD)
        unit_BD = F.normalize(centres.weight, dim=1)[labels_B]
        target_cos_B = (F.normalize(emb_BD, dim=1) * unit_BD).sum(dim=1)
    if images is None:
        images = torch.zeros(len(emb_BD), 4, 4, 3, dtype=torch.uint8)
    return TermInputs(emb_BD=emb_BD, labels_B=labels_B, images=images, target_cos_B=target_cos_B, centres=centres)


def at_angles(angles_deg: list[float], *, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Unit vectors in the plane at these angles: (B, 2)."""
    angles = torch.tensor(angles_deg, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1).to(dtype)
