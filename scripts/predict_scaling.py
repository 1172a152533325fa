"""Computes the predictions of docs/scaling.md: a step of IResNet-100 on H200s, for numbers of GPUs and identities.

    python scripts/predict_scaling.py

It prints the table. The formulas are those of docs/scaling.md; the assumptions about the machine are below, and facerec
measured none of them. W processes with B images each, C classes of D dimensions, S bytes of network gradients.
"""

from dataclasses import dataclass

NETWORK_MACS, NETWORK_BYTES, NETWORK_GB = 12.09e9, 260.6e6, 8.1  # IResNet-100 at 112 px; held in bf16 without the head
B, D = 128, 512
HEAD_FLOPS, LOGIT_BYTES, ROW_BYTES = 8, 128, 24  # chunked engine, per B·C·D, B·C and C·D; see docs/scaling.md

BF16_FLOPS, FP32_FLOPS, MEMORY_BYTES_S = 989e12, 67e12, 4.8e12  # data sheet of an H200, dense
LINK_BYTES_S, NIC_BYTES_S = 450e9, 50e9  # NVLink in one direction; 400 Gb/s for each GPU
NETWORK_USE, MATMUL_USE, STREAM_USE = 0.18, 0.7, 0.8  # the share of those rates that is reached: assumptions
NUM_HEAD_COLLECTIVES, LATENCY_S = 8, 50e-6


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Seconds of a step, and GB of each GPU."""

    network_s: float
    head_s: float
    update_s: float
    exposed_s: float
    held_gb: float

    @property
    def step_s(self) -> float:
        return self.network_s + self.head_s + self.update_s + self.exposed_s


def predict(num_gpus: int, num_classes: float, *, sample_rate: float = 1.0) -> Prediction:
    """Predicts a step with full batches on every GPU, eight per machine."""
    used = sample_rate * num_classes
    rate = STREAM_USE * (LINK_BYTES_S if num_gpus <= 8 else NIC_BYTES_S * 8)  # a ring through each machine
    network_s = 6 * B * NETWORK_MACS / (NETWORK_USE * BF16_FLOPS)
    head_s = HEAD_FLOPS * B * used * D / (MATMUL_USE * FP32_FLOPS) + LOGIT_BYTES * B * used / (
        STREAM_USE * MEMORY_BYTES_S
    )
    update_s = ROW_BYTES * used * D / num_gpus / (STREAM_USE * MEMORY_BYTES_S)
    share = (num_gpus - 1) / num_gpus
    sums_s = 2 * share * NETWORK_BYTES / rate
    embeddings_s = 2 * share * num_gpus * B * D * 4 / rate
    exposed_s = max(0.0, sums_s - 0.6 * network_s) + embeddings_s + NUM_HEAD_COLLECTIVES * LATENCY_S
    kept = 2 * num_classes + (2 if sample_rate < 1 else 1) * used  # centres and momentum; gradient, copy of the drawn
    return Prediction(
        network_s=network_s,
        head_s=head_s,
        update_s=update_s,
        exposed_s=exposed_s,
        held_gb=NETWORK_GB + kept * D * 4 / num_gpus / 1e9,
    )


def main() -> None:
    print("| GPUs | identities | drawn | network ms | head ms | update ms | exposed ms | images/s | efficiency | GB |")
    print("|" + "---|" * 10)
    for num_gpus in (8, 64):
        for num_classes in (1e6, 1e7, 1e8):
            for sample_rate in (1.0, 0.1):
                found = predict(num_gpus, num_classes, sample_rate=sample_rate)
                times = (found.network_s, found.head_s, found.update_s, found.exposed_s)
                cells = [
                    str(num_gpus),
                    f"{num_classes / 1e6:.0f}M",
                    "all" if sample_rate == 1 else f"{sample_rate:.0%}",
                    *(f"{1e3 * seconds:.1f}" for seconds in times),
                    f"{num_gpus * B / found.step_s:,.0f}",
                    f"{found.network_s / found.step_s:.0%}",
                    f"{found.held_gb:.0f}",
                ]
                print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
