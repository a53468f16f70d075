"""Translation engines of the core. Each module has the same order: options, problem, fingerprint, open, the record.

What engines agree on: as many translations come back as texts went in, in their order, and a text that an engine could
not translate comes back as "".
"""

from langadapt.translation.engines.apertium import TRANSLATOR as APERTIUM
from langadapt.translation.engines.ctranslate2 import TRANSLATOR as CTRANSLATE2
from langadapt.translation.engines.memory import TRANSLATOR as MEMORY
from langadapt.translation.engines.openai import TRANSLATOR as OPENAI
from langadapt.translation.engines.transformers import TRANSLATOR as TRANSFORMERS

TRANSLATORS = (APERTIUM, CTRANSLATE2, TRANSFORMERS, OPENAI, MEMORY)
