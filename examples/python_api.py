"""The three layers from Python: load a recipe, plan it, and, when asked to, run it.

python examples/python_api.py              # plan the rehearsal of the LLaMAntino recipe, offline
python examples/python_api.py --execute    # and run it: minutes on two cores
"""
# ruff: noqa: T201

from __future__ import annotations

import sys
from pathlib import Path

from langadapt import Recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "llamantino.toml"

recipe = Recipe.load(RECIPE, overrides=["rehearsal.cpt_steps=60"])  # words: every key and every name is checked
plan = recipe.rehearse().plan()  # meaning: every input is found, every stage is sized

print(f"{plan.recipe.table.name} on {plan.machine}, in {plan.folder}")
for stage in plan.stages:
    memory = f"{stage.estimate.peak / 2**30:.1f} GiB"
    print(f"  {stage.id:20} {stage.kind:9} from {stage.parent:10} {stage.steps or '':>6} {memory:>9}  {stage.status}")
for change in plan.recipe.changes[:5]:
    print(f"  {change.key}: {change.before} -> {change.after} ({change.why})")
for problem in plan.problems:
    print(f"  in the way: {problem}")

if "--execute" in sys.argv[1:]:
    run = plan.execute()  # deeds: each stage leaves an artifact; what is done already is not done again
    for row in run.rows:
        print(f"  {row['stage']:12} {row['task']:20} {row['metric']:22} {row['value']:.3f}")
    print(run.report)
