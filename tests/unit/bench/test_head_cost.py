"""The head's bench: peaks that count what they should."""

from facerec.bench.head_cost import Size, measure_peak


def test_peak_of_the_chunked_engine_is_centres_gradient_momentum_and_little_else():
    size = Size(num_classes=240_000, batch_size=16, embedding_dim=256, device="cpu", num_threads=1)
    assert size.tensor_bytes() == 240_000 * 256 * 4  # 246 MB
    for engine, kept in (("chunked", 3), ("fused", 2)):
        peak = measure_peak(size, engine)
        assert peak.total == peak.beyond + kept * size.tensor_bytes()
        assert -0.1 * size.tensor_bytes() < peak.beyond < 0.5 * size.tensor_bytes()
