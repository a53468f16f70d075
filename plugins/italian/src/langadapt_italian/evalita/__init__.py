"""EVALITA 2023: the tasks that LLaMAntino's instruction stage learns from and is measured on."""

from langadapt_italian.evalita import acti, emotivita, haspeede3, nermud, wic_ita
from langadapt_italian.evalita.task import whole

_TASKS = (nermud.TASK, emotivita.TASK, wic_ita.TASK, acti.TASK_A, acti.TASK_B, haspeede3.TASK)

CORPORA = (whole(_TASKS), *(task.corpus() for task in _TASKS))
EVALUATIONS = tuple(task.evaluation() for task in _TASKS)

__all__ = ["CORPORA", "EVALUATIONS"]
