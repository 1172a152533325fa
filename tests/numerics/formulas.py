"""Every head's loss, written straight from its formula, for float64 and for complex steps.

Nothing here divides by a clamped sine, masks a column or chunks anything: cosines, the logits, cross-entropy. Arrays
may be complex (the imaginary part is the step); comparisons look at the real part.

Letters: B samples, C classes, K sub-centres per class, D embedding dimensions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(kw_only=True)
class Case:
    """What a formula needs.

    Attributes:
        config: the head's configuration.
        emb_BD, weight_RD, bias_C: embeddings, centres (C * K rows), biases or None.
        labels_B: the labels.
        state: what the head has learned, and the margins that were drawn.
    """

    config: dict[str, Any]
    emb_BD: np.ndarray
    weight_RD: np.ndarray
    labels_B: np.ndarray
    bias_C: np.ndarray | None = None
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Logits:
    """psi, g and the scale of a head; the penalty of every sample."""

    psi_B: np.ndarray
    g_BC: np.ndarray
    scale: Any = 64.0
    penalty_B: Any = 0.0


def sample_losses(case: Case) -> np.ndarray:
    """(B,): cross-entropy of the head's logits, with its options."""
    norm_B = length(case.emb_BD)
    num_sub = case.config.get("num_sub_centres", 1)
    cos_BC = nearest(case.emb_BD / norm_B[:, None] @ (case.weight_RD / length(case.weight_RD)[:, None]).T, num_sub)
    samples_B = np.arange(len(norm_B))
    name = case.config["_target_"].rpartition(".")[2]
    logits = FORMULAS[name](case, cos_BC, cos_BC[samples_B, case.labels_B], norm_B)
    scale_B1 = np.broadcast_to(np.asarray(logits.scale), norm_B.shape)[:, None]
    z_BC = scale_B1 * logits.g_BC
    keep_BC = np.ones(z_BC.shape, dtype=bool)
    found_BC = cos_BC.real > case.config.get("filter_threshold", 0.4)
    if case.config.get("inter_class_filter") == "zero":
        z_BC = np.where(found_BC, 0, z_BC)
    elif case.config.get("inter_class_filter") == "drop":
        keep_BC = ~found_BC
    z_BC[samples_B, case.labels_B] = scale_B1[:, 0] * logits.psi_B
    keep_BC[samples_B, case.labels_B] = True
    top_B1 = np.where(keep_BC, z_BC.real, -np.inf).max(axis=1, keepdims=True)
    lse_B = np.log((np.exp(z_BC - top_B1) * keep_BC).sum(axis=1)) + top_B1[:, 0]
    smoothing = case.config.get("label_smoothing", 0.0)
    target_B = z_BC[samples_B, case.labels_B]
    return lse_B - (1 - smoothing) * target_B - smoothing * z_BC.mean(axis=1) + logits.penalty_B


def length(vectors: np.ndarray) -> np.ndarray:
    """The lengths of the rows; np.linalg.norm would take absolute values, which have no complex derivative."""
    return np.sqrt((vectors**2).sum(axis=1))


def nearest(cos_BR: np.ndarray, num_sub: int) -> np.ndarray:
    """(B, C): of every class the cosine of its nearest centre."""
    cos_BCK = cos_BR.reshape(len(cos_BR), -1, num_sub)
    winner_BC1 = cos_BCK.real.argmax(axis=2)[:, :, None]
    return np.take_along_axis(cos_BCK, winner_BC1, axis=2)[:, :, 0]


def arccos(cos: np.ndarray) -> np.ndarray:
    """The angle; numpy's complex arccos has its cut on the real axis, so take the first-order step by hand."""
    angle = np.arccos(np.clip(cos.real, -1, 1))
    return angle - 1j * cos.imag / np.sin(angle) if np.iscomplexobj(cos) else angle


def beyond(angle_B: np.ndarray, cos_B: np.ndarray, m2_B: Any, how: str) -> np.ndarray:
    """cos(angle) inside [0, pi], and its continuation outside."""
    if how == "monotone":
        k_B = np.floor(angle_B.real / math.pi)
        return (-1.0) ** k_B * np.cos(angle_B) - 2 * k_B
    if how == "clip":
        inside_B = (angle_B.real > 1e-3) & (angle_B.real < math.pi - 1e-3)
        return np.cos(np.where(inside_B, angle_B, np.clip(angle_B.real, 1e-3, math.pi - 1e-3)))
    if how == "linear":
        return np.where(angle_B.real > math.pi, cos_B - m2_B * np.sin(m2_B), np.cos(angle_B))
    return np.cos(angle_B)


def combined(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    c = case.config
    psi_B = beyond(c["m1"] * arccos(cos_B) + c["m2"], cos_B, c["m2"], c["beyond_pi"]) - c["m3"]
    return Logits(psi_B=psi_B, g_BC=cos_BC, scale=c["scale"])


def softmax(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    product_BC = nearest(case.emb_BD @ case.weight_RD.T, case.config.get("num_sub_centres", 1)) + case.bias_C
    return Logits(psi_B=product_BC[np.arange(len(cos_B)), case.labels_B], g_BC=product_BC, scale=1.0)


def a_softmax(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    m, blend = case.config["m"], case.state["lambda"]
    theta_B = arccos(cos_B)
    k_B = np.floor(m * theta_B.real / math.pi)
    phi_B = (-1.0) ** k_B * np.cos(m * theta_B) - 2 * k_B
    return Logits(psi_B=(blend * cos_B + phi_B) / (1 + blend), g_BC=cos_BC, scale=norm_B)


def curricularface(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    c, t = case.config, case.state["t"]
    margined_B = np.cos(arccos(cos_B) + c["m"])
    hard_BC = cos_BC.real > margined_B.real[:, None]
    psi_B = beyond(arccos(cos_B) + c["m"], cos_B, c["m"], c["beyond_pi"])
    return Logits(psi_B=psi_B, g_BC=np.where(hard_BC, cos_BC * (t + cos_BC), cos_BC), scale=c["scale"])


def mv_softmax(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    c = case.config
    if c["kind"] == "arc":
        psi_B = np.where(cos_B.real > 0, np.cos(arccos(cos_B) + c["m"]), cos_B)
    else:
        psi_B = np.where(cos_B.real > c["m"], cos_B - c["m"], cos_B)
    hard_BC = cos_BC.real > psi_B.real[:, None]
    return Logits(psi_B=psi_B, g_BC=np.where(hard_BC, c["t"] * cos_BC + c["t"] - 1, cos_BC), scale=c["scale"])


def adaface(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    c, mean, std = case.config, case.state["norm_mean"], case.state["norm_std"]
    norm_B = np.clip(norm_B.real, 1e-3, 100)
    z_B = np.clip((norm_B - mean) / ((std + 1e-3) / c["h"]), -1, 1)
    psi_B = beyond(arccos(cos_B) - c["m"] * z_B, cos_B, None, "clip") - (c["m"] * z_B + c["m"])
    return Logits(psi_B=psi_B, g_BC=cos_BC, scale=c["scale"])


def magface(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    c = case.config
    a_B = np.where((norm_B.real > c["l_a"]) & (norm_B.real < c["u_a"]), norm_B, norm_B.real.clip(c["l_a"], c["u_a"]))
    m_B = (c["u_m"] - c["l_m"]) / (c["u_a"] - c["l_a"]) * (a_B - c["l_a"]) + c["l_m"]
    psi_B = beyond(arccos(cos_B) + m_B, cos_B, m_B, c["beyond_pi"])
    penalty_B = c["lambda_g"] * (a_B / c["u_a"] ** 2 + 1 / a_B)
    return Logits(psi_B=psi_B, g_BC=cos_BC, scale=c["scale"], penalty_B=penalty_B)


def elasticface(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    c, m_B = case.config, case.config["m"] + case.config["std"] * case.state["drawn"]
    if c["plus"]:
        order_B = np.argsort(-cos_B.real)
        m_B = np.array([np.sort(m_B)[::-1][list(order_B).index(i)] for i in range(len(m_B))])
    psi_B = beyond(arccos(cos_B) + m_B, cos_B, m_B, c["beyond_pi"]) if c["kind"] == "arc" else cos_B - m_B
    return Logits(psi_B=psi_B, g_BC=cos_BC, scale=c["scale"])


def adacos(case: Case, cos_BC: np.ndarray, cos_B: np.ndarray, norm_B: np.ndarray) -> Logits:
    return Logits(psi_B=cos_B, g_BC=cos_BC, scale=case.state["scale"])


FORMULAS: dict[str, Callable[..., Logits]] = {
    "MarginHead": combined,
    "SoftmaxHead": softmax,
    "ASoftmaxHead": a_softmax,
    "CurricularFaceHead": curricularface,
    "MVSoftmaxHead": mv_softmax,
    "AdaFaceHead": adaface,
    "MagFaceHead": magface,
    "ElasticFaceHead": elasticface,
    "AdaCosHead": adacos,
}
"""By the class that `_target_` names. A new head needs a line here: its test says so."""
