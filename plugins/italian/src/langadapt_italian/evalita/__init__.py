"""EVALITA 2023: the tasks that LLaMAntino's instruction stage learns from and is measured on."""

from langadapt_italian.evalita import (
    acti,
    clinkart,
    discotex,
    emit,
    emotivita,
    geolingit,
    haspeede3,
    hodi,
    langlearn,
    multi_fake_detective,
    nermud,
    politicit,
    wic_ita,
)
from langadapt_italian.evalita.task import whole

TASKS = (
    emit.TASK_A,
    emit.TASK_A_OUTSIDE,
    emit.TASK_B,
    emit.TASK_B_OUTSIDE,
    emotivita.TASK,
    politicit.TASK,
    geolingit.TASK_A,
    geolingit.TASK_B,
    langlearn.TASK,
    haspeede3.TASK,
    haspeede3.TASK_CONTEXTUAL,
    haspeede3.TASK_XPOLITICAL,
    haspeede3.TASK_XRELIGIOUS,
    hodi.TASK_A,
    hodi.TASK_B,
    multi_fake_detective.TASK,
    multi_fake_detective.TASK_ADDITIONAL,
    acti.TASK_A,
    acti.TASK_B,
    nermud.TASK,
    clinkart.TASK,
    wic_ita.TASK,
    wic_ita.TASK_RANKING,
    discotex.TASK_1,
    discotex.TASK_2,
)

_WITH_TRAINING = tuple(task for task in TASKS if not task.learns_as)

CORPORA = (whole(_WITH_TRAINING), *(task.corpus() for task in _WITH_TRAINING))
EVALUATIONS = tuple(task.evaluation() for task in TASKS)

__all__ = ["CORPORA", "EVALUATIONS", "TASKS"]
