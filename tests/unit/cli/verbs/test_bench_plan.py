"""`facerec bench suite=plan`: tables, figures, and what it refuses."""

import json
import re

import pytest

from facerec.bench.plan import CENTRES, HEAD, NETWORK_SUMS
from facerec.cli.main import main

SMALL = ("suite=plan", "backbone.width_multiplier=0.25", "head.num_classes=50000", "data.global_batch_size=32")


def refusal(capsys, *overrides: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *overrides])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_tables_say_what_a_process_holds_and_what_crosses_between_machines(tmp_path, capsys):
    figures = tmp_path / "plan.json"
    main(["bench", *SMALL, "trainer.micro_batch_size=8", "launch.gpus=2", "machines=2", f"out={figures}"])
    printed, plan = capsys.readouterr().out, json.loads(figures.read_text())
    assert "4 processes on 2 machines" in printed and "12,500 in each process" in printed
    assert plan["held_bytes"][HEAD][CENTRES] == 12_500 * 512 * 4
    assert plan["peak_bytes"] == max(sum(held.values()) for held in plan["held_bytes"].values())
    assert f"peak: {plan['peak_bytes'] / 1e9:.3f} GB (head)" in printed
    assert re.search(rf"{NETWORK_SUMS} +{plan['sent_bytes'][NETWORK_SUMS] / 1e6:.3f}\n", printed)
    assert f"between machines: each sends {sum(plan['sent_bytes'].values()) / 1e6:.3f} MB per step" in printed


def test_a_micro_batch_that_is_not_given_and_parts_that_are_not_counted_are_said(capsys):
    main(["bench", *SMALL, "launch.processes=2", "loss=[inter]", "freeze.epochs.backbone=1"])
    printed = capsys.readouterr().out
    assert "facerec train needs this key too: trainer.micro_batch_size=16" in printed
    assert "left out: loss.inter\nleft out: freeze;" in printed
    assert "between machines: nothing" in printed


def test_keys_of_the_other_suite_are_refused(capsys):
    assert "num_classes=[10]: this key is for suite=head" in refusal(capsys, "suite=plan", "num_classes=[10]")
    assert "head.m2=0.3: suite=head does not read this key" in refusal(capsys, "head.m2=0.3")
    assert "suite=paln; expected one of head, data, plan" in refusal(capsys, "suite=paln")


def test_what_cannot_be_planned_is_refused(capsys):
    assert "head.num_classes is not set" in refusal(capsys, "suite=plan")
    assert "machines=0; expected a whole number" in refusal(capsys, *SMALL, "machines=0")
    assert "gpu_gb=-1; expected a positive number" in refusal(capsys, *SMALL, "gpu_gb=-1")
    assert "cannot be shared evenly by 3 processes" in refusal(capsys, *SMALL, "launch.gpus=3")
    assert "choose one, for example head=arcface" in refusal(capsys, "suite=plan", "experiment=table2/triplet_m035")


@pytest.mark.slow
def test_where_memory_is_short_changes_are_tried_out(capsys):
    main(["bench", *SMALL, "gpu_gb=100"])
    assert re.search(r"gpu_gb=100: 9\d\.\d+ GB remain", capsys.readouterr().out)
    main(["bench", *SMALL, "gpu_gb=1"])
    printed = capsys.readouterr().out
    assert "GB too much. One change at a time" in printed
    tried = dict(re.findall(r"^(\S+=\S+) +(\d+\.\d+) ", printed, re.MULTILINE))
    assert {"optimizer.fused_centres=true", "head.sample_rate=0.1", "trainer.micro_batch_size=16"} <= tried.keys()
    assert re.search(r"backbone.checkpoint_activations=true +\d+\.\d+ +fits", printed)
    assert re.search(r"trainer.precision=bf16 +\d+\.\d+ +too much", printed)
