"""EVALITA 2023: the tasks that LLaMAntino's instruction stage learns from and is measured on."""

from langadapt_italian.evalita import acti, emotivita, haspeede3, nermud, wic_ita
from langadapt_italian.evalita.task import whole

TASKS = (nermud.TASK, emotivita.TASK, wic_ita.TASK, acti.TASK_A, acti.TASK_B, haspeede3.TASK)

_WITH_TRAINING = tuple(task for task in TASKS if not task.learns_as)

CORPORA = (whole(_WITH_TRAINING), *(task.corpus() for task in _WITH_TRAINING))
EVALUATIONS = tuple(task.evaluation() for task in TASKS)

__all__ = ["CORPORA", "EVALUATIONS", "TASKS"]
