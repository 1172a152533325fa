"""`facerec train profile=true`: profiles a training, as a trace and as tables."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.profiler import profile

from facerec.bench.step import Anatomy, step_anatomy
from facerec.cli.summary import text_table
from facerec.runs.run_directory import RunDirectory


def profiled(run_dir: Path) -> AbstractContextManager[Any]:
    """Profiles the training inside: prints its slowest operators and the parts of a step; writes run_dir/profile."""

    def tell(profiler: profile) -> None:
        path = RunDirectory(run_dir).trace
        path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
        print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=45))
        if (anatomy := step_anatomy(profiler.events())) is not None:
            print(_table(anatomy) + "\n")
            (path.parent / "anatomy.json").write_text(json.dumps(asdict(anatomy), indent=1))
        print(f"trace: {path} (open it in Perfetto or chrome://tracing)")

    return profile(on_trace_ready=tell)


def _table(anatomy: Anatomy) -> str:
    seconds_of = {
        "step": anatomy.step_s,
        **{f"  {part.removeprefix('facerec.')}": seconds for part, seconds in anatomy.part_s.items()},
        "collectives": anatomy.collectives_s,
        "  nothing computed meanwhile": anatomy.exposed_s,
    }
    rows = [[name, f"{1e3 * seconds:.2f}", f"{seconds / anatomy.step_s:.1%}"] for name, seconds in seconds_of.items()]
    return text_table((f"mean of {anatomy.num_steps} steps", "ms", "of the step"), rows)
