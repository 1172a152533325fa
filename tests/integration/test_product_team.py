"""A product team's own photos: pairs set aside, fine-tuning, and a benchmark at the rate that the team asks for."""

import re

import pytest

SMALL = ["backbone=iresnet18", "backbone.width_multiplier=0.25", "neck.embedding_dim=64", "trainer.num_threads=1"]
SMALL += ["trainer.device=cpu", "logging.tensorboard=false"]


@pytest.mark.slow
def test_few_photos_are_packed_fine_tuned_and_evaluated_with_all_that_must_be_said(
    real_data, tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)

    def facerec(*words: str) -> str:
        code, printed = command(*words)
        assert code == 0, printed
        return printed

    photos = real_data / "lfw_photos"
    facerec("align", f"photos={photos}", f"landmarks={photos}/landmarks.csv", "out=crops")
    short = ["data.global_batch_size=16", "trainer.num_steps=5", "eval.sets=[]"]
    facerec("train", "data=on_disk", f"data.root={real_data}/celeba_wild", "run_dir=runs/a", *SMALL, *short)

    printed = facerec("pack", "data.root=crops", "split.val_identities=0.3", "pairs=auto", "out=faces")
    (num_negatives,) = re.findall(r"(\d+) negative, of 37 identities", printed)
    assert f"they resolve a FAR no lower than 1/{num_negatives} = 4.0e-03; auto_pairs.num_negative=... of" in printed

    printed = facerec("train", "experiment=finetune", "data.root=faces", "init_from=runs/a", "run_dir=runs/ft", *SMALL)
    before = printed[printed.index("optimizer steps of") - 10 : printed.index("first loss")]
    assert re.search(r"8 optimizer steps of 64 images, 4\.83 epochs; 72 of 85 identities have one image\n", before)
    assert "8 optimizer steps are too few to learn from: trainer.num_epochs=61 makes 101;" in before
    assert "72 of 85 identities have one image: from these, a margin softmax learns" in before
    assert "the class centres are trained already" in printed
    assert len(re.findall(r"The model is (?:better than|below|exactly as good as) where it started", printed)) == 1
    assert re.search(r"best +.*\(eval/val/accuracy ", printed)

    asked = ["device=cpu", "target_fars=[1e-3]"]
    code, printed = command("evaluate", "model=runs/ft@best", "sets=[faces/val.bin]", *asked)
    assert code == 2 and "Traceback" not in printed
    assert f"{num_negatives} pairs of two persons cannot measure FAR 0.001" in printed
    (key,) = re.findall(r"auto_pairs\.num_negative=1000\b", printed)

    facerec("pack", "data.root=crops", "split.val_identities=0.3", "pairs=auto", key, "out=more")
    printed = facerec("evaluate", "model=runs/ft@best", "sets=[more/val.bin]", *asked)
    assert re.search(r"threshold_at_far_1e-3 +0\.\d{3}\n", printed)
    assert re.search(r"accuracy_if_always_different +79\.94 %", printed)  # 251 of 1,251 pairs show one person
    assert 'val: always saying "different" has an accuracy of 79.94 %, the model' in printed
