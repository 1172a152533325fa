"""The first questions of a new user, as typed: a word of another program, help about a section, an option and a key."""

import re

import pytest

from facerec.cli.main import main

WRONG = {
    "optimizer.learning_rate=0.1": "did you mean optimizer.lr?",
    "batch_size=16": "did you mean data.global_batch_size?",
    "epochs=3": "did you mean trainer.num_epochs?",
    "backbone=resnet50": "did you mean iresnet50?",
    "resume=runs/x": "To go on with a run: run_dir=runs/x; to start a new run from its whole state: resume_from=runs/x",
}


@pytest.mark.parametrize(("typed", "answer"), WRONG.items())
@pytest.mark.parametrize("grid", [[], ["-m", "seed=1,2"]], ids=["run", "grid"])
def test_word_of_another_program_is_answered_before_anything_is_made(
    typed, answer, grid, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as refused:
        main(["train", *grid, typed])
    out, err = capsys.readouterr()
    assert refused.value.code == 2 and out == "" and err.count("\n") == 1
    assert answer in err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["trainer"],
            [r"trainer\.precision +fp32 +fp32, bf16 or fp16", r"trainer\.ema_decay +null +for example 0\.9999"],
        ),
        (["head=adaface"], [r"head\.h +0\.333 +range of norms", r"head\.scale +64\.0 +s, the factor on all logits"]),
        (["optimizer"], [r"sgd \* +SGD with momentum\.", r"adamw +AdamW\.", r"optimizer\.lr +0\.1 +the peak learning"]),
        (["num_steps"], [r"trainer\.num_steps +null +length"]),
    ],
)
def test_help_about_a_word_shows_keys_with_defaults_and_comments(words, lines, capsys):
    main(["train", "--help", *words])
    text = capsys.readouterr().out
    assert [line for line in lines if not re.search(rf"^  {line}", text, re.MULTILINE)] == []
